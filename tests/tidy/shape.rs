//! The shape of files and functions, and where `unsafe` may stand.

use super::source::{Source, closing_brace, line_of, report, sources, words};

/// Longest file, lines, without its inline tests.
const FILE_LINE_COUNT_MAX: usize = 600;

/// Longest function, lines: one screen.
const FUNCTION_LINE_COUNT_MAX: usize = 70;

/// The only places for `unsafe`.
const UNSAFE_FOLDERS: [&str; 4] = [
    "wal/src/disk/",
    "daemon/src/reactor/",
    "benches/zero_alloc",
    "tests/support/",
];

/// The line at which the inline tests of a file begin, or its length.
fn own_line_count(source: &Source) -> usize {
    let inline = source.code.find("#[cfg(test)]\nmod tests {");
    inline.map_or_else(
        || source.text.lines().count(),
        |at| line_of(&source.text, at),
    )
}

#[test]
fn every_file_begins_with_what_it_owns() {
    let places: Vec<String> = sources()
        .iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| format!("{}: begins without `//!`", source.path))
        .collect();
    report(
        "say what the file owns, promises and refuses to know",
        &places,
    );
}

#[test]
fn every_file_and_every_function_fits_its_bound() {
    let mut places = Vec::new();
    for source in sources() {
        let count = own_line_count(&source);
        let has_reason = source.text.contains("//! Longer than the bound: ");
        if FILE_LINE_COUNT_MAX < count && !has_reason {
            places.push(format!("{}: {count} lines", source.path));
        }
        for at in words(&source.code, "fn") {
            let Some((open, close)) = body(&source.code, at) else {
                continue;
            };
            let (first, last) = (line_of(&source.code, at), line_of(&source.code, close));
            let above = source.text.lines().take(first - 1).collect::<Vec<_>>();
            let mut comments = above
                .iter()
                .rev()
                .take_while(|line| is_comment_or_attribute(line));
            let has_reason = comments.any(|line| line.contains("// Longer than a screen: "));
            if FUNCTION_LINE_COUNT_MAX < last - first + 1 && !has_reason {
                let name = source.code[at + 2..open]
                    .split(['(', '<'])
                    .next()
                    .unwrap_or("")
                    .trim();
                let count = last - first + 1;
                places.push(format!(
                    "{}:{first}: fn {name} has {count} lines",
                    source.path
                ));
            }
        }
    }
    report(
        "split it: a file answers one question, a function fits a screen; or state the reason",
        &places,
    );
}

fn is_comment_or_attribute(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("//") || line.starts_with("#[")
}

/// The braces of the function whose `fn` is at `at`; none for a declaration or a type.
fn body(code: &str, at: usize) -> Option<(usize, usize)> {
    let open = at + code[at..].find(['{', ';'])?;
    (code.as_bytes()[open] == b'{' && code[at + 2..].starts_with(' '))
        .then(|| (open, closing_brace(code, open)))
}

#[test]
fn unsafe_stands_only_in_the_listed_places_and_says_why_it_is_sound() {
    let mut places = Vec::new();
    for source in sources() {
        let is_listed = UNSAFE_FOLDERS
            .iter()
            .any(|folder| source.path.starts_with(folder));
        let lines: Vec<&str> = source.text.lines().collect();
        for at in words(&source.code, "unsafe") {
            let number = line_of(&source.code, at);
            if !is_listed {
                places.push(format!(
                    "{}:{number}: outside the listed files",
                    source.path
                ));
            } else if !is_explained(&lines, number) && !is_in_explained_impl(&source, &lines, at) {
                places.push(format!("{}:{number}: without SAFETY", source.path));
            }
        }
    }
    report(
        "unsafe belongs into the listed files, each with a // SAFETY: comment",
        &places,
    );
}

/// Whether it is a function of an `unsafe impl` that says why it is sound.
fn is_in_explained_impl(source: &Source, lines: &[&str], at: usize) -> bool {
    let Some(start) = source.code[..at].rfind("unsafe impl") else {
        return false;
    };
    let Some(open) = source.code[start..].find('{') else {
        return false;
    };
    let is_inside = at < closing_brace(&source.code, start + open);
    is_inside && is_explained(lines, line_of(&source.text, start))
}

/// Whether the comment above line `number`, or on it, names what keeps it sound.
fn is_explained(lines: &[&str], number: usize) -> bool {
    let names_it = |line: &str| line.contains("SAFETY:") || line.contains("# Safety");
    let above = lines[..number - 1].iter().rev().take_while(|line| {
        let line = line.trim_start();
        // An attribute, or the first lines of the statement that the block ends, may stand between.
        line.starts_with("//") || line.starts_with("#[") || !line.ends_with([';', '}', '{'])
    });
    names_it(lines[number - 1]) || above.take(12).any(|line| names_it(line))
}
