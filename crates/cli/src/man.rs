//! `lockstep man`: the manual, one page for each command, made of the parser that reads the command line.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use crate::exit::{Exit, Failure};
use crate::monitor::choice::{Chosen, columns};
use crate::{Cli, config};

/// Prints the manual page of a command, or writes those of all of them
///
/// The page goes to stdout: lockstep man mirror | man -l -
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The command, as in `lockstep man clients list`; the program as a whole if not given
    #[arg(value_name = "COMMAND", conflicts_with = "output")]
    command: Vec<String>,

    /// Writes a page for each command into this directory, as /usr/local/share/man/man1, instead
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Prints or writes the pages.
///
/// # Errors
/// When there is no such command, or a page cannot be written.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    let mut root = config::complete::<Cli>();
    root.build();
    if let Some(dir) = args.output {
        return write_all(&root, &dir).map(|()| Exit::Done).map_err(Failure::could_not_run);
    }
    let mut command = &root;
    for word in &args.command {
        command = command
            .find_subcommand(word)
            .ok_or_else(|| Failure::usage(format!("{} has no command {word}", spoken(command))))?;
    }
    let page = page(command).map_err(Failure::could_not_run)?;
    io::stdout().lock().write_all(&page).map_err(Failure::output)?;
    Ok(Exit::Done)
}

fn write_all(root: &clap::Command, dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut open = vec![root];
    while let Some(command) = open.pop() {
        let path = dir.join(Man::new(command.clone()).get_filename());
        fs::write(&path, page(command)?).with_context(|| format!("cannot write {}", path.display()))?;
        open.extend(command.get_subcommands());
    }
    Ok(())
}

fn spoken(command: &clap::Command) -> &str {
    command.get_bin_name().unwrap_or_else(|| command.get_name())
}

/// One page, in roff.
fn page(command: &clap::Command) -> anyhow::Result<Vec<u8>> {
    let man = Man::new(command.clone()).manual("Lockstep").source(concat!("lockstep ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().any(|arg| !arg.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut rest = Roff::new();
    if spoken(command) == "lockstep monitor" {
        numbers(&mut rest)?;
    }
    rest.control("SH", ["EXIT STATUS"]);
    for (exit, meaning) in Exit::ALL {
        rest.control("TP", []).text([bold(exit.code().to_string())]).text([roman(meaning)]);
    }
    rest.control("SH", ["ENVIRONMENT"]).text([
        roman("Each option has a variable named after its command and itself, as "),
        bold("LOCKSTEP_MONITOR_INTERVAL"),
        roman(", and a key in the table of its command in the file that "),
        bold("--config"),
        roman(" names. The command line wins over the environment, and that over the file."),
    ]);
    rest.to_writer(&mut page)?;
    Ok(page)
}

/// What each number is: the same words as `lockstep monitor --metrics help`.
fn numbers(page: &mut Roff) -> anyhow::Result<()> {
    page.control("SH", ["NUMBERS"]).text([roman(
        "On this machine, by what chooses them. A number that is not known is null, and the line says why.",
    )]);
    for Chosen { by, columns } in columns(Path::new("/proc")).map_err(|failure| failure.error)? {
        page.control("SS", [by.as_str()]);
        for column in columns {
            page.control("TP", []);
            page.text([bold(column.key), roman(format!(" ({}, {})", column.unit.name(), column.kind.name()))]);
            page.text([roman(format!("{}. Source: ", column.explanation)), italic(column.source)]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(command: &clap::Command) -> Vec<&clap::Command> {
        let mut found = vec![command];
        command.get_subcommands().for_each(|below| found.extend(all(below)));
        found
    }

    #[test]
    fn every_command_has_a_page_of_its_name_with_all_its_flags() {
        let mut root = config::complete::<Cli>();
        root.build();
        assert!(all(&root).len() > 20);
        for command in all(&root) {
            let text = String::from_utf8(page(command).unwrap()).unwrap();
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                let flag = arg.get_long().map(|long| format!("\\-\\-{}", long.replace('-', "\\-")));
                assert!(flag.is_none_or(|flag| text.contains(&flag)), "{} is not in {text}", arg.get_id());
            }
            assert!(text.contains(".SH \"EXIT STATUS\"") && text.contains(".SH NAME"), "{text}");
        }
    }

    #[test]
    fn the_monitors_page_explains_each_number_with_its_source() {
        let mut page = Roff::new();
        numbers(&mut page).unwrap();
        let text = page.render();
        for Chosen { columns, .. } in columns(Path::new("/proc")).unwrap_or_else(|failure| panic!("{failure:?}")) {
            for column in columns {
                assert!(text.contains(&*column.key.replace('-', "\\-")), "{} is not in {text}", column.key);
            }
        }
        assert!(text.contains("meminfo"), "{text}");
    }
}
