//! A file system of its own.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{Missing, run};

/// A file system of its own, mounted in a temporary folder.
#[derive(Debug)]
pub struct Disk {
    /// Where it is mounted.
    path: PathBuf,
    /// The file that it lies on, which is what the plates of a disk are; none for one in memory.
    image: Option<PathBuf>,
    folder: TempDir,
}

/// A file that takes all the room of a disk.
#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
}

/// The journal is written when somebody asks for it, and not by itself within any test. What goes wrong makes the whole
/// read-only, as it does with a disk that fails.
const OPTIONS: &str = "loop,commit=300,errors=remount-ro";

impl Disk {
    /// In memory, of this size (`16m`), which it may outgrow later.
    ///
    /// # Errors
    /// Where nothing can be mounted.
    pub fn in_memory(size: &str) -> Result<Self, Missing> {
        let disk = Self::unmounted()?;
        run("mount", &[&"-t", &"tmpfs", &"-o", &format!("size={size}"), &"tmpfs", &disk.path])?;
        Ok(disk)
    }

    /// ext4 of this size on a file, which can lose its power and be turned read-only.
    ///
    /// # Errors
    /// Where there is no ext4, or no loop device.
    pub fn on_a_file(bytes: u64) -> Result<Self, Missing> {
        let mut disk = Self::unmounted()?;
        let image = disk.folder.path().join("image-0");
        let made = File::create(&image).and_then(|file| file.set_len(bytes));
        made.map_err(|error| Missing(format!("{}: {error}", image.display())))?;
        run("mkfs.ext4", &[&"-q", &"-F", &image])?;
        disk.image = Some(image);
        disk.mount().map_err(|error| Missing(format!("{error:#}")))?;
        Ok(disk)
    }

    fn unmounted() -> Result<Self, Missing> {
        let missing = |error| Missing(format!("no temporary folder: {error}"));
        let folder = tempfile::Builder::new().prefix("sortie-disk-").tempdir().map_err(missing)?;
        let path = folder.path().join("disk");
        fs::create_dir(&path).map_err(missing)?;
        Ok(Self { path, image: None, folder })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes one in memory larger.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn grow(&self, size: &str) -> Result<()> {
        run("mount", &[&"-o", &format!("remount,size={size}"), &self.path])?;
        Ok(())
    }

    /// Writes everything that was ever written to it, as the system does of itself after a while.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn flush(&self) -> Result<()> {
        run("sync", &[&"--file-system", &self.path])?;
        Ok(())
    }

    /// Takes all the room that there is, until what this gives is dropped.
    ///
    /// # Errors
    /// When it is refused for another reason than that there is none.
    pub fn fill(&self) -> Result<Ballast> {
        let path = self.path.join("ballast");
        let mut file = File::create(&path)?;
        let ballast = Ballast { path };
        let mut bytes = vec![1; 1 << 20];
        // Ever smaller, so that in the end not even a little fits.
        while !bytes.is_empty() {
            match file.write_all(&bytes) {
                Ok(()) => {}
                Err(full) if full.kind() == std::io::ErrorKind::StorageFull => bytes.truncate(bytes.len() / 2),
                Err(other) => return Err(other.into()),
            }
        }
        Ok(ballast)
    }

    /// The power is gone, and comes back: what no flush had reached is gone. Whoever wrote to it must be dead.
    ///
    /// # Errors
    /// When it cannot be mounted again, or has no image.
    pub fn lose_power(&mut self) -> Result<()> {
        let plates = self.image.clone().context("a disk in memory has no plates")?;
        let next = plates.with_file_name(format!("image-{}", super::number() + 1));
        // Before the file system is unmounted, which would write what the power is to take.
        run("cp", &[&"--sparse=always", &plates, &next])?;
        run("umount", &[&self.path])?;
        self.image = Some(next);
        fs::remove_file(plates)?;
        self.mount()
    }

    /// From now on nothing can be written, as when the kernel has given a failing disk up. Programs keep their open files.
    ///
    /// # Errors
    /// Where the kernel cannot be told so.
    pub fn turn_read_only(&self) -> Result<(), Missing> {
        let device = self.device()?;
        let name = device.trim_start_matches("/dev/");
        let door = format!("/sys/fs/ext4/{name}/trigger_fs_error");
        fs::write(&door, "1").map_err(|error| Missing(format!("{door}: {error}")))?;
        match File::create(self.path.join("writable")) {
            Err(refused) if refused.kind() == std::io::ErrorKind::ReadOnlyFilesystem => Ok(()),
            other => Err(Missing(format!("{} is not read-only after an error: {other:?}", self.path.display()))),
        }
    }

    /// Repairs what was turned read-only. Whoever had files open on it must be dead.
    ///
    /// # Errors
    /// When it cannot be mounted again.
    pub fn repair(&self) -> Result<()> {
        run("umount", &[&self.path])?;
        let image = self.image.as_ref().context("a disk in memory does not fail")?;
        // It ends with 1 where it has repaired something, as it has here.
        let checked = std::process::Command::new("e2fsck").args(["-f", "-y"]).arg(image).output()?;
        anyhow::ensure!(checked.status.code().is_some_and(|code| code < 4), "{checked:?}");
        self.mount()
    }

    /// The device that it lies on (`/dev/loop3`).
    ///
    /// # Errors
    /// Where it lies on none.
    pub fn device(&self) -> Result<String, Missing> {
        Ok(run("findmnt", &[&"--noheadings", &"--output", &"SOURCE", &"--mountpoint", &self.path])?.trim().to_owned())
    }

    fn mount(&self) -> Result<()> {
        let image = self.image.as_ref().context("a disk in memory is mounted once")?;
        run("mount", &[&"-t", &"ext4", &"-o", &OPTIONS, image, &self.path])?;
        Ok(())
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            eprintln!("{} is left behind: {error}", self.path.display());
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.device().is_err() {
            return;
        }
        // Lazily: a server that is just being killed may still hold files. The loop device goes with the last of them.
        if let Err(error) = run("umount", &[&"-l", &self.path]) {
            eprintln!("{} is left behind: {error}", self.path.display());
        }
    }
}
