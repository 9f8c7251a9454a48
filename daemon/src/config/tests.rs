//! The configuration as users meet it: precedence, refusals, printing.

use std::io::Write;

use super::*;

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn load(text: &str, given: &[Given]) -> Result<Configuration, ConfigError> {
    let file = file(text);
    Configuration::load(Some(file.path().to_owned()), given)
}

fn given(name: &'static str, text: &str, origin: Origin) -> Given {
    Given {
        name,
        text: text.to_owned(),
        origin,
    }
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_systemd_over_the_default() {
    let systemd = given("socket", "/systemd", Origin::Systemd("RUNTIME_DIRECTORY"));
    let environment = given(
        "socket",
        "/environment",
        Origin::Environment("INMEM_SOCKET"),
    );
    let flag = given("socket", "/flag", Origin::Flag("--socket"));
    let text = "socket = \"/file\"";
    for (text, given, expected) in [
        ("", vec![systemd.clone()], "/systemd"),
        (text, vec![systemd.clone()], "/file"),
        (
            text,
            vec![systemd.clone(), environment.clone()],
            "/environment",
        ),
        (text, vec![systemd, environment, flag], "/flag"),
    ] {
        let configuration = load(text, &given).unwrap();
        assert_eq!(configuration.settings.socket, PathBuf::from(expected));
    }
}

#[test]
fn a_key_file_is_refused_where_nothing_is_encrypted_and_a_credential_waits_unused() {
    let credential = given(
        "key_file",
        "/c/inmem-key",
        Origin::Systemd("CREDENTIALS_DIRECTORY"),
    );
    let named = "key_file = \"/k\"";
    for codec in ["identity", "lz4"] {
        let text = format!("codec = \"{codec}\"\n");
        assert!(load(&text, std::slice::from_ref(&credential)).is_ok());
        let error = load(&format!("{text}{named}"), &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`key_file`") && error.contains(codec),
            "{error}"
        );
    }
    for codec in ["aes-256-gcm", "lz4+aes-256-gcm"] {
        let text = format!("codec = \"{codec}\"\n");
        let found = load(&text, std::slice::from_ref(&credential))
            .unwrap()
            .settings;
        assert_eq!(found.key_file, Some(PathBuf::from("/c/inmem-key")));
        let text = format!("{text}{named}");
        let found = load(&text, std::slice::from_ref(&credential))
            .unwrap()
            .settings;
        assert_eq!(
            found.key_file,
            Some(PathBuf::from("/k")),
            "the one that is named"
        );
    }
    let error = load("codec = \"zip\"", &[]).unwrap_err().to_string();
    assert!(error.contains("lz4+aes-256-gcm"), "{error}");
}

#[test]
fn an_unknown_setting_is_refused_naming_the_nearest_known_one() {
    for (text, nearest) in [
        ("sokcet = \"/x\"", "socket"),
        (
            "[limits]\nconections_max = 1",
            "limits.connection_count_max",
        ),
        (
            "[bufered]\nflush_interval_ms = 1",
            "buffered.flush_interval_ms",
        ),
        ("[wall]", "wal.segment_len_bytes"),
        ("max_pending_writes = 1", "buffered.max_pending_writes"),
    ] {
        let text_of_error = load(text, &[]).unwrap_err().to_string();
        assert!(
            text_of_error.contains(nearest) || text == "[wall]",
            "{text_of_error}"
        );
        assert!(text_of_error.contains("unknown setting"), "{text_of_error}");
    }
}

#[test]
fn a_value_a_setting_cannot_have_is_refused_by_name() {
    for text in [
        "socket = 1",
        "socket = \"relative\"",
        "socket_mode = \"0666\"",
        "socket_mode = \"9\"",
        "socket_mode = \"0400\"",
        "durability = \"paranoid\"",
        "on_poison = \"panic\"",
        "io = \"epoll\"",
        "io = true",
        "orphan_on_recovery = \"yes\"",
        "[limits]\nconnection_count_max = 0",
        "[limits]\nconnection_count_max = -1",
        "[limits]\nframe_timeout_ms = \"1s\"",
        "[access]\nusers = \"root\"",
        "[wal]\nsegment_len_bytes = 65536\nbuffered_sync_bytes = 131072",
        "limits = 3",
    ] {
        assert!(load(text, &[]).is_err(), "{text}");
    }
}

#[test]
fn what_is_printed_reads_back_as_the_same_settings() {
    let text = "durability = \"buffered\"\nio = \"readiness\"\norphan_on_recovery = true\nsocket_mode = \"0660\"\nsocket_group = \"7\"\n\
                [buffered]\nflush_interval_ms = 50\n[access]\nusers = [\"root\", 12]\n[wal]\n";
    let configuration = load(text, &[]).unwrap();
    let printed = configuration.to_text();
    assert!(
        printed.contains("flush_interval_ms = 50  # file "),
        "{printed}"
    );
    assert!(
        printed.contains("max_pending_writes = 1000  # default"),
        "{printed}"
    );
    assert_eq!(
        load(&printed, &[]).unwrap().settings,
        configuration.settings
    );
}

#[test]
fn a_named_file_that_is_missing_is_an_error() {
    let missing = PathBuf::from("/nonexistent/inmemd.toml");
    assert!(matches!(
        Configuration::load(Some(missing), &[]),
        Err(ConfigError::File(FileError::Read { .. }))
    ));
}

#[test]
fn own_user_and_root_may_always_connect_and_others_only_when_listed() {
    let own = rustix::process::geteuid().as_raw();
    let access = Access {
        users: vec!["4711".to_owned()],
        groups: vec!["4712".to_owned()],
    };
    let principals = Principals::resolve(&access).unwrap();
    assert!(principals.allows(own, 1));
    assert!(principals.allows(0, 1));
    assert!(principals.allows(4711, 1));
    assert!(principals.allows(5, 4712));
    assert!(!principals.allows(5, 5));
    let access = Access {
        users: vec!["no-such-user-here".to_owned()],
        groups: Vec::new(),
    };
    assert!(Principals::resolve(&access).is_err());
}

/// What was lost: a reload took over a limit that is fixed at the start, so that the next one said
/// nothing of it, and what is described was what had been in force at the start.
#[test]
fn a_reload_takes_over_what_is_live_and_names_the_rest_every_time() {
    let load = |text: &str| load(text, &[]).unwrap();
    let described = |configuration: &Configuration, name: &str| {
        let all = configuration.described();
        let found = all.into_iter().find(|setting| setting.name == name);
        let setting = found.unwrap();
        let is_of_file = setting.origin.starts_with("file ");
        (setting.value.unwrap(), is_of_file)
    };
    let mut in_force = load("[limits]\nmemory_max = 100\n");
    let fresh = load(
        "log = \"debug\"\nslow_request_us = 5\n\
         [limits]\nmemory_max = 200\nshutdown_timeout_ms = 77\n[access]\nusers = [\"4711\"]\n",
    );
    let first = in_force.adopt(&fresh);
    assert_eq!(first.live, ["log", "slow_request_us", "access.users"]);
    assert_eq!(first.at_restart.len(), 2, "{first:?}");
    let second = in_force.adopt(&fresh);
    assert!(second.live.is_empty());
    assert_eq!(second.at_restart, first.at_restart);
    assert_eq!(in_force.settings.limits.memory_max, 100);
    assert_eq!(in_force.settings.observe.slow_request_us, 5);
    assert_eq!(in_force.settings.access.users, ["4711"]);
    let memory = described(&in_force, "limits.memory_max");
    assert_eq!(memory, ("100".to_owned(), true));
    let slow = described(&in_force, "slow_request_us");
    assert_eq!(slow, ("5".to_owned(), true));
    in_force.adopt(&load(""));
    let slow = described(&in_force, "slow_request_us");
    assert_eq!(slow, ("0".to_owned(), false));
}
