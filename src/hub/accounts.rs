//! The system's users and groups, from wherever it keeps them: files, LDAP, a domain. Look-ups can take long.

use std::io;
use std::os::fd::AsFd as _;

use nix::errno::Errno;
use nix::unistd::{Group, Uid, User};

/// The number of the user of this name.
pub fn user(name: &str) -> io::Result<Option<u32>> {
    Ok(found(User::from_name(name))?.map(|user| user.uid.as_raw()))
}

/// The number of the group of this name.
pub fn group(name: &str) -> io::Result<Option<u32>> {
    Ok(found(Group::from_name(name))?.map(|group| group.gid.as_raw()))
}

/// The groups of this user, the one of its account among them. A user without an account has none.
pub fn groups_of(uid: u32) -> io::Result<Vec<u32>> {
    let groups = match found(User::from_uid(Uid::from_raw(uid)))? {
        Some(user) => all_groups(user)?,
        None => Vec::new(),
    };
    // Where no file can be opened, the system may answer that there is no such user, or no such group.
    io::stderr().as_fd().try_clone_to_owned()?;
    Ok(groups)
}

#[cfg(not(any(target_vendor = "apple", target_os = "illumos", target_os = "solaris")))]
fn all_groups(user: User) -> io::Result<Vec<u32>> {
    let groups = nix::unistd::getgrouplist(&std::ffi::CString::new(user.name)?, user.gid)?;
    Ok(groups.into_iter().map(nix::unistd::Gid::as_raw).collect())
}

/// Some systems number groups in another way, or do not tell, and no library makes it safe to ask.
#[cfg(any(target_vendor = "apple", target_os = "illumos", target_os = "solaris"))]
fn all_groups(_: User) -> io::Result<Vec<u32>> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "the groups of a user cannot be listed on this system"))
}

/// Two of the errors say no more than that there is none (getpwnam(3)).
fn found<T>(result: nix::Result<Option<T>>) -> io::Result<Option<T>> {
    match result {
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_everywhere() {
        assert_eq!((user("root").unwrap(), group("root").unwrap()), (Some(0), Some(0)));
        for name in ["no such account", "", "nul\0"] {
            assert_eq!((user(name).ok().flatten(), group(name).ok().flatten()), (None, None), "{name:?}");
        }
        assert!(groups_of(0).unwrap().contains(&0));
    }

    #[test]
    fn a_user_without_an_account_has_no_groups() {
        assert!(groups_of(u32::MAX - 1).unwrap().is_empty());
    }
}
