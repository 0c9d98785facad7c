//! What happened in the store: docker's `events`.

use std::time::{Duration, SystemTime};

use cli::{During, Failure};
use serde_json::{Value, json};
use store::filter::{Filters, Of};
use store::{Event, Store};

use crate::args::EventsArgs;
use crate::form::Format;
use crate::output;

/// Shows those that are known, and with --follow those to come, each as soon as it is there.
pub(crate) fn events(store: &Store, args: &EventsArgs) -> Result<(), Failure> {
    let what = || "events".to_string();
    if matches!(args.format, Some(Format::Line | Format::Docker)) {
        return Err(Failure::usage("--format", "events are table, json or a template"));
    }
    let filters = Filters::parse(Of::Events, &args.filter).during(what)?;
    if !args.follow {
        for event in store.events(args.since, args.until).during(what)? {
            if filters.event(&event) {
                tell(&event, args.format.as_ref())?;
            }
        }
        return Ok(());
    }
    let mut follower = store.follow_events(args.since).during(what)?;
    loop {
        let left = match args.until {
            None => None,
            Some(until) => match until.duration_since(SystemTime::now()) {
                Ok(left) => Some(left),
                Err(_) => Some(Duration::ZERO),
            },
        };
        let Some(event) = follower.next(left).during(what)? else {
            if left.is_some() { return Ok(()) } else { continue }
        };
        let is_past = |until: SystemTime| event.moment().is_some_and(|moment| moment > until);
        if args.until.is_some_and(is_past) {
            return Ok(());
        }
        if filters.event(&event) {
            tell(&event, args.format.as_ref())?;
        }
    }
}

fn tell(event: &Event, format: Option<&Format>) -> Result<(), Failure> {
    let text = match format {
        Some(Format::Json) => {
            return cli::answer(descriptor::printable(document(event).to_string() + "\n").as_bytes());
        }
        Some(Format::Template(template)) => template.clone().with_escapes().fill(&document(event))?,
        _ => sentence(event),
    };
    output::text(&(text + "\n"))
}

fn kind(event: &Event) -> Value {
    serde_json::to_value(event.kind).unwrap_or_default()
}

/// What happened to what, and what else there is to say: `... container die 0123 (exitCode=0, name=web)`.
fn sentence(event: &Event) -> String {
    let mut all = event.attributes.clone();
    if !event.name.is_empty() {
        all.insert("name".into(), event.name.clone());
    }
    let all: Vec<String> = all.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let attributes = if all.is_empty() { String::new() } else { format!(" ({})", all.join(", ")) };
    let kind = kind(event);
    // A value may have a line's end in it; what is told of an event is one line.
    let text =
        format!("{} {} {} {}{attributes}", event.time, crate::form::plain(&kind), event.action, event.id);
    text.replace('\n', "\\n")
}

/// Docker's document.
fn document(event: &Event) -> Value {
    let mut attributes = event.attributes.clone();
    if !event.name.is_empty() {
        attributes.insert("name".into(), event.name.clone());
    }
    let since = event.moment().and_then(|moment| moment.duration_since(SystemTime::UNIX_EPOCH).ok());
    let since = since.unwrap_or_default();
    json!({
        "Type": kind(event), "Action": event.action, "Actor": {"ID": event.id, "Attributes": attributes},
        "scope": "local", "time": since.as_secs(), "timeNano": u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
    })
}
