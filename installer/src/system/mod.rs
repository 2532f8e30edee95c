//! The machine that the installer runs on: [`process`] starts programs, [`files`] touches files, [`tool`] knows which
//! Debian package has which program.

pub mod files;
pub mod process;
pub mod tool;
