//! The files that decide which PATH a shell comes to, so that its answer holds until one of them changes.

use std::fs::{File, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::environment::Variables;

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

/// No honest start-up file is longer; what comes after that is not looked at.
const MOST_BYTES: u64 = 1024 * 1024;

/// Returns what they say, as one number. Their contents count and not their times: some start-up files touch others.
pub(super) fn fingerprint(environment: &Variables) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in all(environment) {
        see(&path, &mut hasher);
        // Those are directories of start-up files; of others it counts that they are there.
        if path.extension().is_some_and(|extension| extension == "d") {
            let mut files: Vec<PathBuf> =
                std::fs::read_dir(&path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
            files.sort_unstable();
            files.iter().for_each(|file| see(file, &mut hasher));
        }
    }
    hasher.finish()
}

fn see(path: &Path, hasher: &mut DefaultHasher) {
    let metadata = path.metadata().ok();
    metadata.as_ref().map(Metadata::is_dir).hash(hasher);
    if !metadata.is_some_and(|metadata| metadata.is_file()) {
        return;
    }
    path.hash(hasher);
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut content));
    read.ok().hash(hasher);
    content.hash(hasher);
}

fn all(environment: &Variables) -> Vec<PathBuf> {
    let directory = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
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

    #[test]
    fn a_change_of_any_of_them_shows_and_a_touch_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let environment: Variables = [("HOME".parse().unwrap(), dir.path().to_str().unwrap().to_owned())].into();
        let mut seen = vec![fingerprint(&environment)];
        let files =
            [".profile", ".bashrc", ".zshrc", ".config/fish/config.fish", ".config/fish/conf.d/a.fish", "bin/x"];
        for (file, text) in files.iter().flat_map(|file| [(file, "a"), (file, "b")]).take(2 * files.len() - 1) {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
            let now = fingerprint(&environment);
            assert!(!seen.contains(&now), "{file} {text}");
            seen.push(now);
        }
        std::fs::write(dir.path().join(".bashrc"), "b").unwrap();
        assert_eq!(Some(&fingerprint(&environment)), seen.last());
    }
}
