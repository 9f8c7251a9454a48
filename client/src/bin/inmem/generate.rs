//! Completions for shells, and the manual pages, made from the grammar of the two programs.
//!
//! Nothing is written down twice: what a page or a completion says is what the command line
//! understands. Added here is only what the grammar does not know: exit codes, environment,
//! files. Pages are written whole, one file after the other; a failure leaves those before it.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_complete::aot::{Shell, generate};
use clap_mangen::Man;
use in_mem_client::model::ErrorClass;

use crate::cli::arguments::{
    Cli, GenerateCommand, GenerateCompletionsArgs, GenerateManArgs, ShellArgument,
};
use crate::cli::failure::{EXIT_CLASS_BASE, Failure};

/// Generates what is asked for.
pub(crate) fn run(command: &GenerateCommand) -> Result<(), Failure> {
    match command {
        GenerateCommand::Completions(args) => completions(args),
        GenerateCommand::Man(args) => manual(args),
    }
}

fn completions(args: &GenerateCompletionsArgs) -> Result<(), Failure> {
    let shell = match args.shell {
        ShellArgument::Bash => Shell::Bash,
        ShellArgument::Zsh => Shell::Zsh,
        ShellArgument::Fish => Shell::Fish,
    };
    let grammar = Cli::command();
    // Without the commands that are not for people.
    let mut shown = clap::Command::new("inmem")
        .version(env!("CARGO_PKG_VERSION"))
        .args(grammar.get_arguments().cloned())
        .subcommands(
            grammar
                .get_subcommands()
                .filter(|it| !it.is_hide_set())
                .cloned(),
        );
    let mut text = Vec::new();
    generate(shell, &mut shown, "inmem", &mut text);
    let mut out = io::stdout().lock();
    let written = out.write_all(&text).and_then(|()| out.flush());
    written.map_err(|source| Failure::Unsaid { source })
}

fn manual(args: &GenerateManArgs) -> Result<(), Failure> {
    fs::create_dir_all(&args.dir).map_err(|error| Failure::file(&args.dir, error))?;
    let mut client = Cli::command().disable_help_subcommand(true);
    client.build();
    let classes: String = ErrorClass::ALL
        .iter()
        .map(|class| {
            format!(
                ".br\n{} {}\n",
                EXIT_CLASS_BASE + class.number(),
                class.name()
            )
        })
        .collect();
    let sections = CLIENT_SECTIONS.replace(CLASSES_MARK, &classes);
    pages(&client, &args.dir, Some(&sections))?;
    let daemon = in_mem_daemon::grammar();
    pages(&daemon, &args.dir, Some(DAEMON_SECTIONS))
}

/// The page of a command, and of every command below it.
fn pages(command: &clap::Command, dir: &Path, sections: Option<&str>) -> Result<(), Failure> {
    for below in command.get_subcommands().filter(|it| !it.is_hide_set()) {
        pages(below, dir, None)?;
    }
    let man = Man::new(command.clone()).manual("in-mem");
    let path = dir.join(man.get_filename());
    let page = page(command, &man, sections).map_err(|error| Failure::file(&path, error))?;
    fs::write(&path, page).map_err(|error| Failure::file(&path, error))
}

fn page(command: &clap::Command, man: &Man, sections: Option<&str>) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command
        .get_arguments()
        .any(|argument| !argument.is_hide_set())
    {
        man.render_options_section(&mut page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(after) = command.get_after_help() {
        let after = after.to_string();
        // The codes have a section of their own.
        let after = after.split("Exit codes:").next().unwrap_or_default();
        let (notes, examples) = after.split_once("Examples:\n").unwrap_or((after, ""));
        let (examples, rest) = examples.split_once("\n\n").unwrap_or((examples, ""));
        literal_section(&mut page, "NOTES", &format!("{notes}{rest}"));
        literal_section(&mut page, "EXAMPLES", examples);
    }
    page.extend_from_slice(sections.unwrap_or(SEE_ALSO).as_bytes());
    Ok(page)
}

/// A section whose lines stay as they are.
fn literal_section(page: &mut Vec<u8>, name: &str, text: &str) {
    let text = text.trim_end();
    if text.trim().is_empty() {
        return;
    }
    let mut section = format!(".SH {name}\n.nf\n");
    for line in text.lines() {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        // A line that begins with one of these would be a command of the formatter.
        let guard = if line.starts_with(['.', '\'']) {
            "\\&"
        } else {
            ""
        };
        section.push_str(&format!("{guard}{line}\n"));
    }
    section.push_str(".fi\n");
    page.extend_from_slice(section.as_bytes());
}

/// Where the classes of errors stand in the section of exit codes.
const CLASSES_MARK: &str = "<classes>\n";

const SEE_ALSO: &str = "\
.SH \"EXIT STATUS\"
As of
.BR inmem (1).
.SH \"SEE ALSO\"
.BR inmem (1),
.BR inmemd (1)
";

const CLIENT_SECTIONS: &str = r#".SH "INTERACTIVE SHELL"
Without a command, on a terminal,
.B inmem
reads commands from a prompt that names the run and says whether a transaction is open. It knows
every command of the command line, without the word
.BR inmem ,
and these:
.TP
.B begin, commit, rollback
The same as
.BR "txn begin" ", " "txn commit" " and " "txn rollback" .
.TP
.BI "use " RUN
Act in this run, by name or id; without one, in the default run.
.TP
.BR help " [\fICOMMAND\fR]"
What can be said.
.TP
.B exit, quit
Leave, as Ctrl\-D does. An open transaction is rolled back, and that is said.
.PP
The tabulator completes commands, options, runs and keys. Ctrl\-C clears the line; while a request
is under way it gives the request up: the answer says whether a write may have happened, the
connection is made again, and an open transaction is rolled back with the old one.
.PP
Lines are kept as they were typed, values included, unless they begin with a space, are longer than
4096 bytes, or the shell was started with
.BR \-\-no\-history .
.SH "PIPE"
With
.B \-\-json
and no command,
.B inmem
answers each line of standard input with one line. An interrupt gives up the request under way; its
answer is the last line.
.SH "EXIT STATUS"
.TP
.B 0
Done.
.TP
.B 1
A negative answer: a condition did not hold, or a check found a fault.
.TP
.B 2
The command cannot be understood.
.TP
.B 10 + N
An error of class N, which the line on standard error names:
<classes>
.TP
.B 30
No daemon answers at the socket.
.TP
.B 31
The connection was lost and nobody knows whether the write happened.
.TP
.B 32
The daemon speaks another protocol.
.TP
.B 130
Interrupted.
.TP
.B 141
Nobody reads the output any more.
.SH ENVIRONMENT
.TP
.B INMEM_SOCKET
The socket of the daemon, if \-\-socket does not name it.
.TP
.B XDG_RUNTIME_DIR
Where the socket is looked for otherwise: inmem/inmem.sock in it; /run/inmem/inmem.sock as root.
.TP
.B XDG_STATE_HOME
Where the history is kept: inmem/history in it.
.SH FILES
.TP
.I ~/.local/state/inmem/history
Lines of the interactive shell, readable by their owner only.
.SH "SEE ALSO"
.BR inmemd (1)
"#;

const DAEMON_SECTIONS: &str = r#".SH SIGNALS
SIGTERM and SIGINT stop the daemon when what it has acknowledged is as durable as was promised.
.SH "EXIT STATUS"
.TP
.B 0
Stopped when asked to.
.TP
.B 1
Another error.
.TP
.B 2
The command line or the configuration cannot be understood.
.TP
.B 3
Another process has the directory.
.TP
.B 4
The log or the manifest is damaged; the message names file and offset.
.TP
.B 5
Not permitted.
.TP
.B 6
No space.
.TP
.B 7
The socket is in use.
.TP
.B 8
The codec or its key is not the one the directory was written with.
.SH ENVIRONMENT
.TP
.B INMEM_DATA_DIR
The directory of the database, if \-\-data\-dir does not name it.
.TP
.B INMEM_SOCKET
The listening socket, if \-\-socket does not name it.
.SH FILES
.TP
.I /etc/inmem/inmemd.toml
The configuration, if there is one.
.SH "SEE ALSO"
.BR inmem (1)
"#;
