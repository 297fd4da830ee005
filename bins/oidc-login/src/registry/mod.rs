//! Registries of images: the helper that docker and its kin ask for a password, and how a registry is
//! entered into their configuration. Passwords that outlive the job are got when they are asked for, and
//! stored only where somebody asked for that.

mod docker_config;
mod enter;
mod entry;
mod file;
mod ghcr;
mod grant;
mod helper;
mod name;

pub(crate) use enter::{Entering, Registration, enter};
pub(crate) use entry::{Ecr, Way};
pub(crate) use ghcr::run;
pub(crate) use helper::{Helper, PROGRAM};
pub(crate) use name::RegistryName;
