//! Looks at a log from outside: offline, also when it is damaged, also while a process owns it.
