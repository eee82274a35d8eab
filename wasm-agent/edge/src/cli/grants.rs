//! Grants: what a device lets a module do, where no publisher has signed a manifest for it.

use crate::problem::Problem;
use aquifer_protocol::TopicName;
use aquifer_wasm::abi::{Import, Imports};
use aquifer_wasm::manifest::{Budget, Manifest, Rate};
use aquifer_wasm::uplink::FOLLOWS_MAX;

/// Bytes of values of its own.
const KV_BYTES: u32 = 16_384;

/// Grants, as they are written.
#[derive(Default)]
pub(super) struct Grants {
    pub(super) name: Option<String>,
    pub(super) topics: Option<String>,
    pub(super) follow: Option<String>,
    pub(super) imports: Option<String>,
}

impl Grants {
    /// Whether anything is granted here.
    pub(super) fn are_given(&self) -> bool {
        let all = [&self.name, &self.topics, &self.follow, &self.imports];
        all.iter().any(|grant| grant.is_some())
    }

    /// As a manifest, but for the module's hash. What a device grants to its own agent does not run out.
    ///
    /// # Errors
    /// `bad_topic`, `bad_grant`.
    pub(super) fn manifest(&self, file: &str) -> Result<Manifest, Problem> {
        let topics = topics(self.topics.as_deref())?;
        Ok(Manifest {
            name: self.name.clone().unwrap_or_else(|| file.to_owned()),
            module: [0; 32],
            imports: imports(self.imports.as_deref())?,
            publishes: topics.clone(),
            follows: topics_followed(self.follow.as_deref())?,
            remembers: topics,
            budget: Budget::USUAL,
            rate: Rate::USUAL,
            kv_bytes: KV_BYTES,
            not_after: u64::MAX,
            attest: None,
        })
    }
}

fn topics(list: Option<&str>) -> Result<Vec<String>, Problem> {
    let names = list.unwrap_or_default().split(',').map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(|name| match name.parse::<TopicName>() {
            Ok(name) => Ok(name.to_string()),
            Err(why) => Err(Problem::new(
                "bad_topic",
                2,
                why.to_string(),
                "for example: --topics plant/alerts",
            )),
        })
        .collect()
}

fn topics_followed(list: Option<&str>) -> Result<Vec<String>, Problem> {
    let names = topics(list)?;
    if names.len() > FOLLOWS_MAX {
        let message = format!("an agent follows at most {FOLLOWS_MAX} topics");
        return Err(Problem::new(
            "bad_topic",
            2,
            message,
            "follow a topic above them",
        ));
    }
    Ok(names)
}

fn imports(list: Option<&str>) -> Result<Imports, Problem> {
    let Some(list) = list else {
        return Ok(Imports::USUAL);
    };
    let names = list
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    names.into_iter().try_fold(Imports::NONE, |all, name| {
        Import::named(name)
            .map(|import| all.with(import))
            .ok_or_else(|| {
                let known: Vec<&str> = Import::ALL.iter().map(|import| import.name()).collect();
                let message = format!("`{name}` is no call that can be granted");
                Problem::new(
                    "bad_grant",
                    2,
                    message,
                    format!("give any of {}", known.join(", ")),
                )
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_what_was_written_and_no_more() {
        let grants = Grants {
            name: None,
            topics: Some("plant/alerts, sensor".into()),
            follow: Some("plant".into()),
            imports: Some("publish,log".into()),
        };
        let manifest = grants.manifest("sensor").expect("good");
        assert_eq!(vec!["plant/alerts", "sensor"], manifest.publishes);
        assert_eq!(vec!["plant"], manifest.follows);
        let imports: Vec<_> = manifest.imports.iter().collect();
        assert_eq!(vec![Import::Publish, Import::Log], imports);
        let nothing = Grants::default().manifest("sensor").expect("good");
        assert!(nothing.publishes.is_empty() && !Grants::default().are_given());
        let bad = Grants {
            topics: Some("Plant".into()),
            ..Grants::default()
        };
        assert_eq!("bad_topic", bad.manifest("a").expect_err("bad").code);
    }
}
