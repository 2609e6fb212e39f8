//! What a map held before, and what has become of it since.

use portolan_core::types::Moment;
use portolan_core::{Change, Document, Key, Step, Timeline, Timestamp, Version};

use crate::error::{Error, Result};
use crate::map::Map;
use crate::shared::State;

/// What led from one moment of a map to another, as [`Map::history`] gives it.
///
/// It is a copy of its own: what is written meanwhile does not change it.
#[derive(Clone, Debug)]
pub struct History {
    timeline: Timeline,
    /// Beneath which changes are told.
    path: Vec<Key>,
    since: Option<Version>,
    until: Version,
    known_since: Option<Timestamp>,
}

impl History {
    /// The concise list of changes: what is different in the end, in the order of a
    /// [`Batch`](crate::Batch). Costs the whole map.
    pub fn changes(&self) -> Vec<Change> {
        let mut changes = self.timeline.changes();
        changes.retain(|change| change.path.starts_with(&self.path));
        changes
    }

    /// One transaction after the other. Where the beginning was left open they start at
    /// [`known_since`](Self::known_since). Costs the whole map and what was done since.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = self.timeline.steps();
        for step in &mut steps {
            let changes = &mut step.changes;
            changes.retain(|change| change.path.starts_with(&self.path));
        }
        steps.retain(|step| !step.changes.is_empty());
        steps
    }

    /// Where it begins; `None` where that was left open.
    pub fn since(&self) -> Option<&Version> {
        self.since.as_ref()
    }

    /// Where it ends.
    pub fn until(&self) -> &Version {
        &self.until
    }

    /// From when on the past of the map is known here; `None` where all of it is.
    pub fn known_since(&self) -> Option<Timestamp> {
        self.known_since
    }
}

/// The version that a moment stands for; `None` where it is left open.
fn version(document: &Document, moment: Moment<'_>) -> Result<Option<Version>> {
    let known_since = document.known_since();
    moment
        .version(document)
        .ok_or(Error::PastUnknown { known_since })
}

impl Map {
    /// What led from one moment to another, `since` left out, `until` included: each a
    /// [`Version`], a [`Timestamp`], milliseconds since the Unix epoch, or
    /// [`Moment::Open`](crate::Moment::Open), the beginning or now. Of one map within another,
    /// what happened beneath it.
    ///
    /// A node keeps the [latest values](crate::Builder::history) that were replaced or removed
    /// while it ran, and what its store has told of since it was last condensed. Fails where the
    /// state at one of the moments is not known any more, or the end lies before the beginning.
    ///
    /// Readers go on, and writers wait, while what is needed is copied: it costs the whole map.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let node = portolan::Node::builder().spawn().await?;
    /// use portolan::Moment;
    ///
    /// let fleet = node.open("fleet").await?;
    /// fleet.set("rate", 10)?;
    /// let then = fleet.version();
    /// fleet.set("rate", 20)?;
    /// fleet.set("rate", 30)?;
    ///
    /// let history = fleet.history(&then, Moment::Open)?;
    /// let changes = history.changes();
    /// assert_eq!(changes[0].old, Some(10.into()));
    /// assert_eq!(changes[0].new, Some(30.into()));
    /// assert_eq!(history.steps().len(), 2);
    /// assert_eq!(fleet.as_of(&then)?.get("rate"), Some(&10.into()));
    /// # Ok::<(), portolan::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn history<'a>(
        &self,
        since: impl Into<Moment<'a>>,
        until: impl Into<Moment<'a>>,
    ) -> Result<History> {
        let (since, until) = (since.into(), until.into());
        self.shared().read(|state: &State| {
            let document = state.replica.document();
            let known_since = document.known_since();
            let since = version(document, since)?;
            let until = version(document, until)?.unwrap_or_else(|| document.version());
            if since.as_ref().is_some_and(|since| !until.covers(since)) {
                return Err(Error::PastOrder);
            }
            let timeline = document.timeline(since.as_ref(), Some(&until));
            Ok(History {
                timeline: timeline.ok_or(Error::PastUnknown { known_since })?,
                path: self.path().to_vec(),
                since,
                until,
                known_since,
            })
        })
    }

    /// The open map as it was at a moment, from its root. Costs the whole map. Fails where that is
    /// not known any more.
    pub fn as_of<'a>(&self, moment: impl Into<Moment<'a>>) -> Result<Document> {
        let moment = moment.into();
        self.read(|document| {
            let version = version(document, moment)?.unwrap_or_else(|| document.version());
            let known_since = document.known_since();
            document
                .as_of(&version)
                .ok_or(Error::PastUnknown { known_since })
        })
    }
}
