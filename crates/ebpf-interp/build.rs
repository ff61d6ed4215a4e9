//! Tells the crate whether it is optimised, which decides how operations follow one another: see
//! `src/dispatch`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(optimised)");
    let level = std::env::var("OPT_LEVEL");
    if level.is_ok_and(|level| matches!(level.as_str(), "2" | "3")) {
        println!("cargo::rustc-cfg=optimised");
    }
}
