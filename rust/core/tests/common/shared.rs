//! The recorded truth: what is in the repository, and what may stand beside it.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file of the repository.
pub(crate) fn in_repository(relative: &str) -> PathBuf {
    root().join(relative)
}

/// A file of the reference folder (`$PIOXIDE_SHARED`, or `shared` beside the checkout), or `None` with a loud word.
pub(crate) fn in_reference(relative: &str) -> Option<PathBuf> {
    let folders = [
        std::env::var_os("PIOXIDE_SHARED").map(PathBuf::from),
        Some(root().join("../shared")),
        Some(root().join("../../shared")),
    ];
    let found = folders.into_iter().flatten().map(|folder| folder.join(relative)).find(|path| path.exists());
    if found.is_none() {
        eprintln!(
            "SKIPPED: reference file {relative:?} is not here; set PIOXIDE_SHARED to the folder that holds it"
        );
    }
    found
}
