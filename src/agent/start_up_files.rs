//! The files that decide which PATH a shell comes to, so that its answer holds until one of them changes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::environment::Variables;
use crate::home::stamp::Stamp;

/// Those of the system: files, and directories of files.
const OF_SYSTEM: [&str; 21] = [
    "/etc/environment",
    "/etc/profile",
    "/etc/profile.d",
    "/etc/bash.bashrc",
    "/etc/bashrc",
    "/etc/paths",
    "/etc/paths.d",
    "/etc/zshenv",
    "/etc/zprofile",
    "/etc/zshrc",
    "/etc/zlogin",
    "/etc/zsh/zshenv",
    "/etc/zsh/zprofile",
    "/etc/zsh/zshrc",
    "/etc/zsh/zlogin",
    "/etc/fish/config.fish",
    "/etc/fish/conf.d",
    "/usr/share/fish/vendor_conf.d",
    "/etc/ksh.kshrc",
    "/etc/mkshrc",
    "/etc/login.defs",
];

/// Those in a person's home directory. The last are directories that some system's files look for.
const OF_PERSON: [&str; 14] = [
    ".profile",
    ".bash_profile",
    ".bash_login",
    ".bashrc",
    ".bash_aliases",
    ".kshrc",
    ".mkshrc",
    ".pam_environment",
    ".cargo/env",
    ".nvm/alias/default",
    ".asdf/asdf.sh",
    ".pyenv/version",
    "bin",
    ".local/bin",
];

const OF_ZSH: [&str; 4] = [".zshenv", ".zprofile", ".zshrc", ".zlogin"];
const OF_FISH: [&str; 3] = ["config.fish", "conf.d", "fish_variables"];

/// Returns what they are known by now; `None` if one was written a moment ago, so that another change might not show.
pub(super) fn fingerprint(environment: &Variables) -> Option<u64> {
    let (mut hasher, now) = (DefaultHasher::new(), SystemTime::now());
    let mut is_settled = true;
    let mut see = |path: &Path| {
        let stamp = Stamp::of_target(path);
        is_settled &= stamp.is_none_or(|stamp| stamp.is_settled(now));
        stamp.hash(&mut hasher);
    };
    for path in all(environment) {
        see(&path);
        // A directory does not change with what is written into one of its files.
        if path.to_string_lossy().ends_with(".d") {
            let mut files: Vec<PathBuf> =
                std::fs::read_dir(&path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
            files.sort();
            files.iter().for_each(|file| see(file));
        }
    }
    is_settled.then(|| hasher.finish())
}

fn all(environment: &Variables) -> Vec<PathBuf> {
    let directory = |name: &str| {
        let value = environment.iter().find(|(variable, _)| variable.to_string() == name).map(|(_, value)| value);
        value.map(PathBuf::from).filter(|path| path.is_absolute())
    };
    let mut paths: Vec<PathBuf> = OF_SYSTEM.iter().map(PathBuf::from).collect();
    let Some(home) = directory("HOME") else { return paths };
    let zsh = directory("ZDOTDIR").unwrap_or_else(|| home.clone());
    let fish = directory("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")).join("fish");
    paths.extend(OF_PERSON.iter().map(|name| home.join(name)));
    paths.extend(OF_ZSH.iter().map(|name| zsh.join(name)));
    paths.extend(OF_FISH.iter().map(|name| fish.join(name)));
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::Duration;

    #[test]
    fn a_change_of_any_of_them_shows() {
        let dir = tempfile::tempdir().unwrap();
        let environment: Variables = [("HOME".parse().unwrap(), dir.path().to_str().unwrap().to_owned())].into();
        let write = |name: &str, age_secs: u64| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = File::create(path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age_secs)).unwrap();
        };
        let mut seen = vec![fingerprint(&environment).unwrap()];
        assert_eq!(fingerprint(&environment), Some(seen[0]));
        for (age_secs, name) in
            [".profile", ".bashrc", ".zshrc", ".config/fish/config.fish", ".config/fish/conf.d/a.fish"]
                .into_iter()
                .zip(100..)
                .map(|(name, age)| (age, name))
        {
            write(name, age_secs);
            // The directory above it is new, too.
            let settled = (0..200).find_map(|_| {
                std::thread::sleep(Duration::from_millis(10));
                fingerprint(&environment)
            });
            let now = settled.unwrap();
            assert!(!seen.contains(&now), "{name}");
            seen.push(now);
        }
        write(".profile", 0);
        assert_eq!(fingerprint(&environment), None, "it may be written again within this moment");
    }
}
