//! The real binary, as its users meet it: commands, HTTP, streams, tokens, crashes.

mod auth;
mod bad_input;
mod bus;
mod commands;
mod containers;
mod crash;
mod events;
mod fleet;
mod history;
mod http;
mod import;
mod joined;
mod languages;
mod members;
mod redis;
mod serve;
mod support;
mod topologies;
