//! Names the shared library after its ABI, so that a program finds the version that it was linked with, and leaves out
//! what only a debugger of the library itself would read.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libpioxide.so.1");
        println!("cargo::rustc-cdylib-link-arg=-Wl,--strip-all");
    }
}
