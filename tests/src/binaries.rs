//! The real binaries, built once by the same cargo and profile as the test.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// What cargo tells a test of its own crate. A build script (ring's) that runs again whenever one of them differs would run here,
/// and again in the next build outside of a test, each time with everything that depends on it.
const OF_A_TEST: [&str; 7] = [
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_LINKS",
    "CARGO_PKG_NAME",
    "CARGO_PKG_VERSION_MAJOR",
    "CARGO_PKG_VERSION_MINOR",
    "CARGO_PKG_VERSION_PATCH",
    "CARGO_PKG_VERSION_PRE",
];

/// The path of a binary such as `sortie` or `agent-exec`.
///
/// # Panics
/// When they cannot be built.
#[allow(clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]
pub fn path(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let own = std::env::current_exe().expect("a test has a path");
        // target/<profile>/deps/<test>
        let folder = own.ancestors().nth(2).expect("a test lies in a target folder").to_path_buf();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--workspace", "--bins"]).current_dir(workspace());
        for variable in OF_A_TEST {
            build.env_remove(variable);
        }
        if folder.file_name().is_some_and(|name| name == "release") {
            build.arg("--release");
        }
        let built = build.status().expect("cargo can be run");
        assert!(built.success(), "the binaries could not be built");
        folder
    });
    folder.join(name)
}

/// The folder of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}
