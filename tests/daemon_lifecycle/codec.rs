//! A daemon whose data is compressed or encrypted: what it takes to start it, and what it says when
//! that is not there.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::daemon_process::{Daemon, NotReady};
use super::raw_client::RawClient;

/// The value of every key.
fn value() -> Vec<u8> {
    let value = in_mem_model::Value::from("plain-value");
    in_mem_model::encode(&value).unwrap().as_bytes().to_vec()
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// A file of this user alone.
    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).unwrap();
        }
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path
    }

    fn start(&self, settings: &str) -> Result<Daemon, NotReady> {
        let file = self.file("inmemd.toml", settings.as_bytes());
        Daemon::start_with(self.path(), &["--config", file.to_str().unwrap()])
    }

    /// The exit code and the log of a daemon that must not start.
    fn refused(&self, settings: &str) -> (Option<i32>, String) {
        let refused = self.start(settings).err().expect("it does not start");
        (refused.status.code(), refused.log)
    }

    /// Every file of the data directory.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let data = self.path().join("data.inmem");
        let mut directories = vec![data];
        let mut files = Vec::new();
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => directories.push(path),
                    false => files.push((path.clone(), std::fs::read(path).unwrap())),
                }
            }
        }
        files.sort();
        files
    }
}

/// The settings of a codec and its key.
fn with(codec: &str, key: &Path) -> String {
    format!("codec = \"{codec}\"\nkey_file = {key:?}\n")
}

/// A closed directory with one key, encrypted with 32 times 0x5A, and the file of that.
fn encrypted() -> (Place, PathBuf) {
    let place = Place::new();
    let key = place.file("key", "5a".repeat(32).as_bytes());
    let daemon = place.start(&with("aes-256-gcm", &key)).unwrap();
    RawClient::connect(daemon.socket()).put("plain-key", &value());
    assert_eq!(daemon.terminate().code(), Some(0));
    (place, key)
}

#[test]
fn an_encrypted_directory_opens_with_its_key_alone_and_each_refusal_says_what_to_do() {
    let (place, key) = encrypted();
    let other = place.file("other", &[0x5B; 32]);
    let short = place.file("short", b"5a5a");
    let none = place.path().join("none");
    let before = place.files();
    for (path, bytes) in &before {
        let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        assert!(!holds(b"plain-"), "{}", path.display());
    }
    let aes = "codec = \"aes-256-gcm\"";
    for (settings, code, says) in [
        (with("aes-256-gcm", &other), 8, "does not fit this database"),
        (aes.to_owned(), 8, "key_file"),
        (String::new(), 8, &*format!("set {aes}")),
        ("codec = \"lz4\"".to_owned(), 8, "keeps its codec for life"),
        (with("lz4+aes-256-gcm", &key), 8, &format!("set {aes}")),
        (with("lz4", &key), 2, "encrypts nothing"),
        (with("aes-256-gcm", &none), 8, "cannot read the key file"),
        (with("aes-256-gcm", &short), 8, "holds no key"),
        (with("zip", &key), 2, "must be one of"),
    ] {
        let (found, log) = place.refused(&settings);
        assert_eq!(found, Some(code), "{settings}{log}");
        assert!(log.contains(says), "{settings}{log}");
        for secret in ["5a5a", "5b5b", "90, 90", "91, 91"] {
            assert!(!log.contains(secret), "{log}");
        }
    }
    let open_to_others = PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&key, open_to_others).unwrap();
    let (code, log) = place.refused(&with("aes-256-gcm", &key));
    assert_eq!(code, Some(5), "{log}");
    assert!(log.contains("is open to others"), "{log}");
    assert!(
        place.files() == before,
        "nothing was changed by any of them"
    );
}

#[test]
fn a_key_handed_over_as_a_credential_opens_what_was_made_with_it_from_a_file() {
    let (place, _) = encrypted();
    let credential = place.file("credentials/inmem-key", &[0x5A; 32]);
    let settings = place.file("inmemd.toml", b"codec = \"aes-256-gcm\"\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_inmemd"));
    let socket = place.path().join("s.sock");
    let data = place.path().join("data.inmem");
    command.arg("--data-dir").arg(data);
    command.arg("--socket").arg(&socket);
    command.arg("--config").arg(settings);
    command.env("CREDENTIALS_DIRECTORY", credential.parent().unwrap());
    let daemon = Daemon::spawn(command, socket).unwrap();
    let found = RawClient::connect(daemon.socket()).get("plain-key");
    assert_eq!(found, Some(value()));
    assert_eq!(daemon.terminate().code(), Some(0));
}

#[test]
fn a_compressed_directory_comes_back_after_a_kill_and_a_plain_one_is_never_compressed_later() {
    let place = Place::new();
    let first = place.start("codec = \"lz4\"\n").unwrap();
    let mut client = RawClient::connect(first.socket());
    for number in 0..20 {
        client.put(&format!("key-{number}"), &value());
    }
    first.kill();
    let again = place.start("codec = \"lz4\"\n").unwrap();
    for number in 0..20 {
        let found = RawClient::connect(again.socket()).get(&format!("key-{number}"));
        assert_eq!(found, Some(value()));
    }
    assert_eq!(again.terminate().code(), Some(0));
    let (code, log) = place.refused("codec = \"identity\"\n");
    assert!(
        code == Some(8) && log.contains("set codec = \"lz4\""),
        "{code:?} {log}"
    );
}
