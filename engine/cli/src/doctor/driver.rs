//! The driver behind an interface, and what is known of it.

use std::path::Path;

use crate::route::Interface;

use super::Check;
use super::checks::version_of;

/// The first whose virtio-net has zero-copy.
const VIRTIO_ZERO_COPY_KERNEL: (u32, u32) = (6, 13);

/// A driver as sysfs shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Driver {
    pub(super) name: String,
    /// Loaded, not built in.
    pub(super) is_module: bool,
}

impl Driver {
    /// None where there is none, as with veth, or where `sysfs` is not that of the interface's network namespace.
    pub(super) fn of(interface: &Interface, sysfs: &Path) -> Option<Driver> {
        let device = sysfs.join("class/net").join(&interface.name);
        let index = std::fs::read_to_string(device.join("ifindex")).ok()?;
        if index.trim().parse() != Ok(interface.index) {
            return None;
        }
        let driver = std::fs::read_link(device.join("device/driver")).ok()?;
        let name = driver.file_name()?.to_str()?.to_owned();
        // What is built in has a directory there too, but no state of loading.
        let is_module = sysfs.join("module").join(&name).join("initstate").exists();
        Some(Driver { name, is_module })
    }
}

/// virtio-net sends a static header of its own before each zero-copy packet, and finds the address for the card in a way that is only
/// right of a driver built in (seen in Linux 7.3.4; tests/vm/run.sh).
pub(super) fn check(driver: Option<&Driver>, release: &str) -> Option<Check> {
    let Driver { name, is_module } = driver?;
    let has_zero_copy = version_of(release) >= VIRTIO_ZERO_COPY_KERNEL;
    if name != "virtio_net" || !is_module || !has_zero_copy {
        return Some(Check::ok("driver", name));
    }
    let fact =
        "virtio_net as a module may stop the card for good in zero-copy mode (virtio: bogus descriptor)";
    Some(Check::warn("driver", fact, "start with --bind-mode copy, or build the driver into the kernel"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::super::Level;
    use super::*;

    const NEW: &str = "6.18.44";

    fn card() -> Interface {
        Interface { index: 2, name: "ens5".to_owned(), ..Interface::default() }
    }

    /// A tree like that of the kernel, gone when dropped.
    struct Sysfs(PathBuf);

    impl Sysfs {
        fn with(driver: &str, is_module: bool) -> Sysfs {
            let root = std::env::temp_dir()
                .join(format!("ringwire-sysfs-{}-{driver}-{is_module}", std::process::id()));
            let device = root.join("class/net/ens5/device");
            fs::create_dir_all(&device).unwrap();
            fs::write(root.join("class/net/ens5/ifindex"), "2\n").unwrap();
            symlink(format!("../../../bus/virtio/drivers/{driver}"), device.join("driver")).unwrap();
            let module = root.join("module").join(driver);
            fs::create_dir_all(module.join("parameters")).unwrap();
            if is_module {
                fs::write(module.join("initstate"), "live\n").unwrap();
            }
            Sysfs(root)
        }

        fn level(&self, release: &str) -> Level {
            check(Driver::of(&card(), &self.0).as_ref(), release).expect("there is a driver").level
        }
    }

    impl Drop for Sysfs {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn virtio_net_as_a_module_is_warned_of_where_it_has_zero_copy() {
        let module = Sysfs::with("virtio_net", true);
        assert_eq!(
            ["6.12.63-amd64", "6.13.0", "7.3.4"].map(|release| module.level(release)),
            [Level::Ok, Level::Warn, Level::Warn]
        );
        let found = check(Driver::of(&card(), &module.0).as_ref(), NEW).unwrap();
        assert!(found.remedy.contains("--bind-mode copy"), "{found:?}");
    }

    #[test]
    fn a_driver_that_is_built_in_and_one_of_another_name_are_fine() {
        assert_eq!(Sysfs::with("virtio_net", false).level(NEW), Level::Ok);
        assert_eq!(Sysfs::with("ixgbe", true).level(NEW), Level::Ok);
    }

    #[test]
    fn nothing_is_said_where_sysfs_does_not_show_the_interface() {
        let sysfs = Sysfs::with("virtio_net", true);
        let namesake = Interface { index: 7, ..card() };
        let other = Interface { name: "ens6".to_owned(), ..card() };
        assert_eq!([namesake, other].map(|interface| Driver::of(&interface, &sysfs.0)), [None, None]);
        assert_eq!(check(None, NEW), None);
    }
}
