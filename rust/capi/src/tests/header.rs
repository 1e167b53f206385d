//! The committed header is what the source says.

use std::path::Path;

#[test]
fn the_header_is_what_cbindgen_makes_of_the_source() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(here.join("cbindgen.toml")).unwrap();
    // Modules are followed from here.
    let builder = cbindgen::Builder::new().with_config(config).with_src(here.join("src/lib.rs"));
    let mut made = Vec::new();
    builder.generate().unwrap().write(&mut made);
    let committed = here.join("include/pioxide.h");
    if std::env::var_os("PIOXIDE_WRITE_HEADER").is_some() {
        std::fs::write(&committed, &made).unwrap();
    }
    let (made, committed) = (String::from_utf8(made).unwrap(), std::fs::read_to_string(committed).unwrap());
    let differing = made.lines().zip(committed.lines()).find(|(made, committed)| made != committed);
    assert!(
        made == committed,
        "include/pioxide.h is stale, first at {differing:?}: run `make cpp-header` and commit what it writes"
    );
}
