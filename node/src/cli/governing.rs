//! `topic` and `policy`: where data may live, and why.

use super::Context;
use super::human::{self, Paint, plural};
use super::output::Answer;
use crate::api::{Explain, NewTopic, PolicyView, Problem, TopicView};
use crate::{config, moment};
use aquifer_protocol::limits::BODY_BYTES_MAX;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(super) enum TopicVerb {
    /// Found a topic, with a law
    Create {
        /// Its name, such as acme/eu/personal-data
        name: String,
        #[command(flatten)]
        law: LawFlags,
    },
    /// List the topics that this node knows
    List,
    /// Show a topic
    Show {
        /// Its name
        name: String,
    },
    /// Show or set a topic's law
    #[command(subcommand)]
    Policy(TopicPolicyVerb),
}

#[derive(Debug, Subcommand)]
pub(super) enum TopicPolicyVerb {
    /// Show the law in force
    Show {
        /// The topic
        topic: String,
    },
    /// Set a new law; what is not given stays as it is
    Set {
        /// The topic
        topic: String,
        #[command(flatten)]
        law: LawFlags,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum PolicyVerb {
    /// Say whether data of a topic may go somewhere, and which rule says so (exit 6: it may not)
    Explain {
        /// The topic
        topic: String,
        /// A region, or a node's peer id
        #[arg(long)]
        to: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct LawFlags {
    /// Regions in which data may rest, and all below them: eu,us
    #[arg(long, value_delimiter = ',')]
    regions: Option<Vec<String>>,
    /// A region that must hold a copy
    #[arg(long, value_name = "REGION")]
    required_region: Option<String>,
    /// Whether data may leave the top-level region of its home
    #[arg(long, value_name = "true|false")]
    cross_border: Option<bool>,
    /// Whether texts must be encrypted
    #[arg(long)]
    encrypt: bool,
    /// How long texts are kept, such as 30d
    #[arg(long, value_name = "DURATION")]
    retention: Option<String>,
    /// How many nodes hold it
    #[arg(long, visible_alias = "replicas")]
    copies: Option<u16>,
    /// Nodes that may hold and read it: peer ids
    #[arg(long, value_delimiter = ',')]
    readers: Option<Vec<String>>,
    /// Nodes that may write to it: peer ids
    #[arg(long, value_delimiter = ',')]
    writers: Option<Vec<String>>,
    /// The longest text, in bytes
    #[arg(long, value_name = "BYTES")]
    body_bytes_max: Option<u32>,
}

impl TopicVerb {
    /// The command, as the envelope names it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "topic create",
            Self::List => "topic list",
            Self::Show { .. } => "topic show",
            Self::Policy(TopicPolicyVerb::Show { .. }) => "topic policy show",
            Self::Policy(TopicPolicyVerb::Set { .. }) => "topic policy set",
        }
    }
}

impl LawFlags {
    /// The law `base` with what the flags say instead.
    fn over(self, base: PolicyView) -> Result<PolicyView, Problem> {
        for region in self.regions.iter().flatten().chain(&self.required_region) {
            config::parse_region(region)?;
        }
        let retention = self
            .retention
            .as_deref()
            .map(moment::read_duration)
            .transpose()?;
        Ok(PolicyView {
            allowed_regions: self.regions.or(base.allowed_regions),
            required_region: self.required_region.or(base.required_region),
            cross_border_allowed: self.cross_border.or(base.cross_border_allowed),
            encryption_required: self.encrypt.then_some(true).or(base.encryption_required),
            retention_seconds: retention
                .map(|kept| kept.as_secs())
                .or(base.retention_seconds),
            copies: self.copies.or(base.copies),
            readers: self.readers.or(base.readers),
            writers: self.writers.or(base.writers),
            body_bytes_max: self.body_bytes_max.or(base.body_bytes_max),
        })
    }
}

pub(super) async fn topic(context: &Context, verb: TopicVerb) -> Result<Answer, Problem> {
    let paint = context.output.paint();
    let topic = match verb {
        TopicVerb::List => return list(context, paint).await,
        TopicVerb::Create { name, law } => {
            let request = NewTopic {
                name,
                policy: law.over(PolicyView::default())?,
            };
            context.client.topic_create(&request).await?
        }
        TopicVerb::Show { name } => context.client.topic(&name).await?,
        TopicVerb::Policy(TopicPolicyVerb::Show { topic }) => {
            let topic = context.client.topic(&topic).await?;
            let human = format!(
                "{}\n{}",
                paint.bold(&topic.name),
                law(&topic.policy).join("\n")
            );
            return Ok(Answer::new(&topic.policy, human)
                .meta("topic", &topic.name)
                .meta("epoch", &topic.epoch)
                .meta("founders", &topic.founders));
        }
        TopicVerb::Policy(TopicPolicyVerb::Set { topic, law }) => {
            let base = context.client.topic(&topic).await?.policy;
            context.client.policy_set(&topic, &law.over(base)?).await?
        }
    };
    let human = shown(paint, &topic);
    Ok(Answer::new(&topic, human).ids([topic.name.clone()]))
}

async fn list(context: &Context, paint: Paint) -> Result<Answer, Problem> {
    let topics = context.client.topics().await?;
    let rows: Vec<Vec<String>> = topics
        .iter()
        .map(|topic| {
            let regions = topic.policy.allowed_regions.as_ref();
            let regions = regions.map_or_else(|| "anywhere".to_owned(), |list| list.join(","));
            let held = if topic.held { "yes" } else { "refused" };
            let (count, holders) = (topic.memories.to_string(), topic.holders.len().to_string());
            vec![topic.name.clone(), regions, count, holders, held.to_owned()]
        })
        .collect();
    let heading = ["topic", "regions", "memories", "holders", "held here"];
    let mut human = human::table(paint, &heading, &rows);
    if rows.is_empty() {
        human = paint.dim("no topics");
    }
    let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
    Ok(Answer::new(&topics, human).ids(names))
}

fn shown(paint: Paint, topic: &TopicView) -> String {
    let mut out = format!(
        "{}\n{}\n",
        paint.bold(&topic.name),
        law(&topic.policy).join("\n")
    );
    match &topic.refused {
        Some(rule) => out += &format!("  {}\n", paint.bad(&format!("not held here: {rule}"))),
        None => {
            let holders = topic.holders.len();
            let nodes = plural(holders, "node");
            out += &format!(
                "  {} memories here, held by {holders} {nodes}\n",
                topic.memories
            );
        }
    }
    if topic.founders.len() > 1 {
        let line = "founded twice before its founders met: the law is what both allow";
        out += &format!("  {}\n", paint.warn(line));
    }
    out
}

/// The law in words, a rule a line.
fn law(policy: &PolicyView) -> Vec<String> {
    let mut lines = Vec::new();
    lines.push(match &policy.allowed_regions {
        Some(regions) => format!("  may rest in {}", regions.join(", ")),
        None => "  may rest anywhere".to_owned(),
    });
    if let Some(region) = &policy.required_region {
        lines.push(format!("  {region} must hold a copy"));
    }
    if policy.cross_border_allowed == Some(false) {
        lines.push("  may not leave its top-level region".to_owned());
    }
    if let Some(seconds) = policy.retention_seconds {
        lines.push(format!("  texts are kept for {}", moment::spelt(seconds)));
    }
    if let Some(copies) = policy.copies {
        lines.push(format!(
            "  {copies} {}",
            if copies == 1 { "copy" } else { "copies" }
        ));
    }
    for (who, nodes) in [("read", &policy.readers), ("write", &policy.writers)] {
        if let Some(nodes) = nodes {
            lines.push(format!("  only these may {who}: {}", nodes.join(", ")));
        }
    }
    if let Some(most) = policy
        .body_bytes_max
        .filter(|most| *most < BODY_BYTES_MAX as u32)
    {
        lines.push(format!("  texts of at most {most} bytes"));
    }
    lines
}

pub(super) async fn policy(context: &Context, verb: PolicyVerb) -> Result<Answer, Problem> {
    let PolicyVerb::Explain { topic, to } = verb;
    let explained = context.client.explain(&Explain { topic, to }).await?;
    let paint = context.output.paint();
    let verdict = if explained.allowed {
        paint.good("allowed")
    } else {
        paint.bad("refused")
    };
    let holders: Vec<&str> = explained
        .holders
        .iter()
        .map(|holder| holder.region.as_str())
        .collect();
    let human = format!(
        "{verdict}  {} → {}\n  rule    {}\n  reason  {}\n  held by {} {} now{}",
        explained.topic,
        explained.to,
        explained.rule,
        explained.reason,
        holders.len(),
        plural(holders.len(), "node"),
        if holders.is_empty() {
            String::new()
        } else {
            format!(" ({})", holders.join(", "))
        },
    );
    let exit = if explained.allowed { 0 } else { 6 };
    Ok(Answer::new(&explained, human)
        .ids([explained.rule.clone()])
        .exit(exit))
}
