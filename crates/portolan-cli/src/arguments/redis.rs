//! What may be asked of a coordinated map.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct Redis {
    #[command(subcommand)]
    pub(crate) operation: RedisOperation,
    /// Redis's URL; may be repeated with --sentinel or --cluster
    #[arg(
        long = "redis",
        env = "PORTOLAN_REDIS",
        value_name = "URL",
        default_value = "redis://127.0.0.1:6379",
        hide_env_values = true,
        global = true,
        help_heading = "Redis"
    )]
    pub(crate) urls: Vec<String>,
    /// The URLs are Sentinels, which know the master under this name
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "cluster",
        global = true,
        help_heading = "Redis"
    )]
    pub(crate) sentinel: Option<String>,
    /// With which user, password and database to go to that master
    #[arg(
        long,
        value_name = "URL",
        default_value = "redis://master",
        global = true,
        help_heading = "Redis"
    )]
    pub(crate) master: String,
    /// The URLs are nodes of a cluster; the map has the layout for clusters
    #[arg(long, global = true, help_heading = "Redis")]
    pub(crate) cluster: bool,
    /// Trust the certificates in this PEM file instead of the public ones
    #[arg(
        long,
        env = "PORTOLAN_CA",
        value_name = "FILE",
        global = true,
        help_heading = "Redis"
    )]
    pub(crate) ca: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RedisOperation {
    /// Print the value of a key
    Get {
        #[command(flatten)]
        place: RedisPlace,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Set a key
    Set {
        #[command(flatten)]
        place: RedisPlace,
        /// The value, as it is; `-` reads standard input
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// Only if the key is not there
        #[arg(long, conflicts_with = "if_equals")]
        if_absent: bool,
        /// Only if the key holds this
        #[arg(long, value_name = "TEST", allow_hyphen_values = true)]
        if_equals: Option<String>,
        /// End when all nodes read it, or fail after so many seconds
        #[arg(long, value_name = "SECONDS")]
        wait: Option<u32>,
    },
    /// List the keys
    Keys {
        /// Name of the map
        name: String,
        /// Only the keys that match: `*` stands for anything but `/`, `**` for anything
        pattern: Option<String>,
        /// One key a line as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print changes as they happen
    Watch {
        /// Name of the map
        name: String,
        /// Only the keys that match: `*` stands for anything but `/`, `**` for anything
        pattern: Option<String>,
        /// One JSON object a line for every change
        #[arg(long)]
        json: bool,
    },
    /// Delete a key
    Delete {
        #[command(flatten)]
        place: RedisPlace,
        /// Only if the key holds this
        #[arg(long, value_name = "TEST", allow_hyphen_values = true)]
        if_equals: Option<String>,
    },
    /// Add to an integer, and print the sum
    Incr {
        #[command(flatten)]
        place: RedisPlace,
        /// How much
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        by: i64,
    },
    /// Append to a list of strings, and print it as JSON
    Append {
        #[command(flatten)]
        place: RedisPlace,
        /// What to append; after `--` also what begins with `-`
        #[arg(required = true)]
        values: Vec<String>,
        /// Only what is not in it
        #[arg(long)]
        unique: bool,
    },
    /// Remove from a list of strings, and print the rest as JSON
    Remove {
        #[command(flatten)]
        place: RedisPlace,
        /// What to remove, wherever it stands; after `--` also what begins with `-`
        #[arg(required = true)]
        values: Vec<String>,
    },
    /// Delete all keys
    Reset {
        /// Name of the map
        name: String,
    },
    /// Show the map's size, revision and nodes
    Status {
        /// Name of the map
        name: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Which key of which coordinated map.
#[derive(Debug, Args)]
pub(crate) struct RedisPlace {
    /// Name of the map
    pub(crate) name: String,
    /// The key
    pub(crate) key: String,
}
