//! `agent`: WASM agents are deployed, asked, looked at and stopped.

mod flags;
mod show;

use super::Context;
use super::human::safe;
use super::output::Answer;
use crate::agents::said;
use crate::api::{Deploy, Invoke, Invoked, MoveAgent, Problem, VerifyAgent};
use crate::{amount, moment};
use serde_json::Value;
use std::io::Read as _;
use std::path::Path;

pub(super) use flags::AgentVerb;
use flags::{DeployFlags, InvokeFlags};
use show::{list, logs, one, receipts_table, verdict};

/// The longest module, in bytes: more is not read.
const MODULE_MAX: u64 = 65_536;

impl AgentVerb {
    /// The command, as the envelope names it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Deploy(_) => "agent deploy",
            Self::List => "agent list",
            Self::Show { .. } => "agent show",
            Self::Logs { .. } => "agent logs",
            Self::Invoke(_) => "agent invoke",
            Self::Receipts { .. } => "agent receipts",
            Self::Verify { .. } => "agent verify",
            Self::Upgrade(_) => "agent upgrade",
            Self::Move { .. } => "agent move",
            Self::Stop { .. } => "agent stop",
        }
    }
}

pub(super) async fn agent(context: &Context, verb: AgentVerb) -> Result<Answer, Problem> {
    let (client, paint) = (&context.client, context.output.paint());
    match verb {
        AgentVerb::Deploy(flags) => deploy(context, flags).await,
        AgentVerb::List => {
            let agents = client.agents().await?;
            let ids: Vec<String> = agents.iter().map(|agent| agent.name.clone()).collect();
            Ok(Answer::new(&agents, list(paint, &agents)).ids(ids))
        }
        AgentVerb::Show { name } => Ok(one(paint, &client.agent(&name).await?)),
        AgentVerb::Logs { name, last } => {
            let lines = client.agent_logs(&name, last).await?;
            Ok(Answer::new(&lines, logs(paint, &lines)))
        }
        AgentVerb::Invoke(flags) => invoke(context, flags).await,
        AgentVerb::Receipts { name, last } => {
            let receipts = client.agent_receipts(&name, last).await?;
            let ids: Vec<String> = receipts.iter().map(|one| one.receipt.clone()).collect();
            Ok(Answer::new(&receipts, receipts_table(paint, &receipts)).ids(ids))
        }
        AgentVerb::Verify {
            name,
            steps,
            engine,
        } => {
            let request = VerifyAgent {
                steps: Some(steps),
                engine: Some(engine),
            };
            let verified = client.agent_verify(&name, &request).await?;
            let exit = u8::from(verified.different > 0);
            Ok(Answer::new(&verified, verdict(paint, &verified)).exit(exit))
        }
        AgentVerb::Upgrade(flags) => {
            let request = Deploy {
                module: module(&flags.file)?,
                grants: flags.grants.read()?,
                ..Deploy::default()
            };
            Ok(one(
                paint,
                &client.agent_upgrade(&flags.name, &request).await?,
            ))
        }
        AgentVerb::Move { name, to, force } => {
            let request = MoveAgent {
                to,
                force,
                wait_ms: None,
            };
            Ok(one(paint, &client.agent_move(&name, &request).await?))
        }
        AgentVerb::Stop { name } => Ok(one(paint, &client.agent_stop(&name).await?)),
    }
}

async fn deploy(context: &Context, flags: DeployFlags) -> Result<Answer, Problem> {
    let stem = flags.file.file_stem().and_then(|stem| stem.to_str());
    let request = Deploy {
        name: flags
            .name
            .unwrap_or_else(|| stem.unwrap_or("agent").to_owned()),
        topic: flags.topic,
        module: module(&flags.file)?,
        grants: flags.grants.read()?,
        agents: flags.agents,
        copies: flags.copies,
        region: flags.region,
        gpu_bytes: flags.gpu.as_deref().map(amount::read).transpose()?,
        models: flags.models,
        publisher: flags.publisher,
        wait_ms: None,
    };
    let agent = context.client.agent_deploy(&request).await?;
    Ok(one(context.output.paint(), &agent))
}

async fn invoke(context: &Context, flags: InvokeFlags) -> Result<Answer, Problem> {
    let text = match flags.input.as_deref() {
        Some("-") => Some(super::text::given(flags.input)?),
        _ => flags.input,
    };
    let bytes = flags
        .hex
        .then(|| hex(text.as_deref().unwrap_or_default()))
        .transpose()?;
    let input = match &bytes {
        Some(_) => None,
        None => text.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text))),
    };
    let wait = flags
        .wait
        .as_deref()
        .map(moment::read_duration)
        .transpose()?;
    let request = Invoke {
        input,
        bytes,
        copy: flags.copy,
        send: flags.send,
        wait_ms: wait.map(|wait| wait.as_millis() as u64),
    };
    let invoked = context.client.agent_invoke(&flags.name, &request).await?;
    Ok(Answer::new(&invoked, said_of(&invoked)))
}

fn said_of(invoked: &Invoked) -> String {
    match (&invoked.said, &invoked.bytes) {
        (Some(Value::String(text)), _) => safe(text),
        (Some(said), _) => said.to_string(),
        (None, Some(bytes)) if !bytes.is_empty() => {
            let bytes = data_encoding::BASE64.decode(bytes.as_bytes());
            said::shown(&bytes.unwrap_or_default())
        }
        (None, None) if invoked.step.is_none() => "sent".to_owned(),
        _ => "it took the input and said nothing".to_owned(),
    }
}

fn module(path: &Path) -> Result<String, Problem> {
    let unreadable = |cause: std::io::Error| {
        let message = format!("cannot read {}: {cause}", path.display());
        Problem::new("no_such_file", 3, message, "give the path of a .wasm file")
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MODULE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MODULE_MAX {
        let message = format!("{} has more than {MODULE_MAX} bytes", path.display());
        let hint = "agents are small: build with opt-level z, as wasm-agent/guest/README.md says";
        return Err(Problem::new("bad_module", 2, message, hint));
    }
    Ok(data_encoding::BASE64.encode(&bytes))
}

fn hex(text: &str) -> Result<String, Problem> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes());
    let bytes = bytes.map_err(|_| {
        Problem::new(
            "bad_input",
            2,
            "the input is not hexadecimal",
            "for example: --hex 8201",
        )
    })?;
    Ok(data_encoding::BASE64.encode(&bytes))
}
