//! The sources of the workspace, as text and as code.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders that hold our sources.
pub(crate) const FOLDERS: [&str; 9] = [
    "model", "wal", "snapshot", "engine", "ipc", "daemon", "client", "tests", "benches",
];

/// One source file.
pub(crate) struct Source {
    /// Its path from the root, components separated by `/`.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
    /// Its text with comments and the insides of strings blanked out, line for line.
    pub(crate) code: String,
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of ours.
pub(crate) fn sources() -> Vec<Source> {
    files(&FOLDERS, &["rs"])
        .into_iter()
        .map(|(path, text)| Source {
            code: blank(&text),
            path,
            text,
        })
        .collect()
}

/// Every file under `folders` with one of `extensions`, with its text, sorted by path.
pub(crate) fn files(folders: &[&str], extensions: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in folders {
        collect(&root().join(folder), extensions, &mut found);
    }
    found.sort();
    assert!(!found.is_empty(), "nothing to scan under {folders:?}");
    found
}

fn collect(folder: &Path, extensions: &[&str], found: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("a directory that can be listed").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() && name != "target" && name != "corpus" {
            collect(&path, extensions, found);
        }
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension.is_some_and(|extension| extensions.contains(&extension)) {
            let relative = path.strip_prefix(root()).expect("listed beneath the root");
            let text = fs::read_to_string(&path).expect("a source file that is UTF-8");
            found.push((relative.to_string_lossy().into_owned(), text));
        }
    }
}

/// Fails with one line for each place.
pub(crate) fn report(rule: &str, places: &[String]) {
    assert!(places.is_empty(), "{rule}\n  {}", places.join("\n  "));
}

/// The number of the line that holds byte `at`, from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Places of `word` in `code` that are not part of a longer word.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_part = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let bytes = code.as_bytes();
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| {
            let before = at.checked_sub(1).and_then(|at| bytes.get(at));
            !is_part(before) && !is_part(bytes.get(at + word.len()))
        })
}

/// The place of the brace that closes the one at `open`.
pub(crate) fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 && at > open {
            return at;
        }
    }
    code.len()
}

/// Replaces comments and the insides of strings and characters by spaces, and keeps line feeds.
pub(crate) fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = skipped_end(text, at);
        if end == at {
            code.push(if bytes[at].is_ascii() {
                char::from(bytes[at])
            } else {
                ' '
            });
            at += 1;
            continue;
        }
        for byte in &bytes[at..end] {
            code.push(if *byte == b'\n' { '\n' } else { ' ' });
        }
        at = end;
    }
    code
}

/// Where the comment, string or character that begins at `at` ends; `at` when none does.
fn skipped_end(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    let find = |pattern: &str, from: usize| {
        rest[from..]
            .find(pattern)
            .map_or(text.len(), |found| at + from + found)
    };
    if rest.starts_with("//") {
        return find("\n", 0);
    }
    if rest.starts_with("/*") {
        return (find("*/", 2) + 2).min(text.len());
    }
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let follows_word = at > 0 && is_word(text.as_bytes()[at - 1]);
    let prefix = ["br", "cr", "r"]
        .into_iter()
        .find(|prefix| rest.starts_with(prefix));
    if let Some(prefix) = prefix.filter(|_| !follows_word) {
        let hashes = rest[prefix.len()..]
            .bytes()
            .take_while(|byte| *byte == b'#')
            .count();
        if rest[prefix.len() + hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            return (find(&close, prefix.len() + hashes + 1) + close.len()).min(text.len());
        }
    }
    if rest.starts_with('"') {
        return quoted_end(text, at, b'"');
    }
    let mut characters = rest.chars();
    let is_character = characters.next() == Some('\'')
        && (characters.next() == Some('\\') || characters.next() == Some('\''));
    if is_character {
        quoted_end(text, at, b'\'')
    } else {
        at
    }
}

fn quoted_end(text: &str, at: usize, quote: u8) -> usize {
    let bytes = text.as_bytes();
    let mut end = at + 1;
    while end < bytes.len() && bytes[end] != quote {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    (end + 1).min(bytes.len())
}

#[test]
fn blanking_hides_comments_and_strings_and_nothing_else() {
    let text =
        "let a = \"un\\\"safe\"; // unsafe\nlet c = 'x'; let l: &'static str = r#\"un\"safe\"#;";
    let code = blank(text);
    assert_eq!(code.len(), text.len());
    assert!(!code.contains("safe"));
    assert!(code.contains("&'static str = "));
    assert_eq!(line_of(text, text.len() - 1), 2);
    assert_eq!(words("unsafe un unsafe_code un", "un").count(), 2);
}
