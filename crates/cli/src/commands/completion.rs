//! `completion`: what a shell needs to complete this command line.

use clap::CommandFactory;

use crate::arguments::{Arguments, Completion};

/// Prints the shell's script.
pub(crate) fn run(completion: &Completion) {
    let mut command = Arguments::command();
    clap_complete::generate(completion.shell, &mut command, "jangada", &mut std::io::stdout());
}
