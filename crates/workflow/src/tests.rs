//! The engine against a model world: plans built by hand, histories by chance.

mod actions;
mod build;
mod ending;
mod generate;
mod properties;
mod retrying;
mod size;
mod undoing;
mod world;
