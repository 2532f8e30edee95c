//! The calls themselves: encode, call, decode.

use std::time::Duration;

use jiff::Timestamp;
use nemordp_types::guest::{Account, GuestSession};
use nemordp_types::instance::InstanceStatus;
use nemordp_types::node::{NodeInventory, NodeLoad};
use nemordp_types::operation::Operation;
use nemordp_types::template::TemplatePresence;
use nemordp_types::{Failure, InstanceId, LoginName, Mutation, OperationId, Reason, Template};
use nemordp_wire::status::from_status;
use nemordp_wire::{id, time, v1};
use secrecy::ExposeSecret;
use tonic::{Response, Status};

use super::channel::Client;
use crate::Change;

pub(super) async fn send(
    mut client: Client,
    mutation: Mutation,
    change: &Change,
    wait: Duration,
) -> Result<Operation, Failure> {
    let (asked, wait_ms) = (mutation, milliseconds(wait));
    let mutation = Some(v1::Mutation::from(&mutation));
    let answer = match change {
        Change::Ensure(spec) | Change::Reconfigure(spec) => {
            let without_guest = matches!(change, Change::Reconfigure(_));
            let spec = Some(v1::InstanceSpec::from(spec.as_ref()));
            client.ensure_instance(v1::EnsureInstanceRequest { mutation, spec, without_guest, wait_ms }).await
        }
        Change::Power(action) => {
            let action = v1::PowerAction::from(action).into();
            client.power_instance(v1::PowerInstanceRequest { mutation, action, wait_ms }).await
        }
        Change::Delete => client.delete_instance(v1::DeleteInstanceRequest { mutation, wait_ms }).await,
        Change::SetPassword { login, password } => {
            let (login_name, password) = (login.as_str().to_owned(), password.expose_secret().to_owned());
            client.set_password(v1::SetPasswordRequest { mutation, login_name, password, wait_ms }).await
        }
        Change::EndSessions { login, proof_only } => {
            let (login_name, proof_only) = (login.as_str().to_owned(), *proof_only);
            client.end_sessions(v1::EndSessionsRequest { mutation, login_name, proof_only, wait_ms }).await
        }
    };
    let operation = decode::<_, Operation>(answer)?;
    same(asked.operation_id, operation.mutation.operation_id)?;
    Ok(operation)
}

pub(super) async fn operation(mut client: Client, wanted: OperationId, wait: Duration) -> Result<Operation, Failure> {
    let request = v1::GetOperationRequest { operation_id: id::encode(&wanted), wait_ms: milliseconds(wait) };
    let operation = decode::<_, Operation>(client.get_operation(request).await)?;
    same(wanted, operation.mutation.operation_id)?;
    Ok(operation)
}

pub(super) async fn status(mut client: Client, wanted: InstanceId) -> Result<InstanceStatus, Failure> {
    let request = v1::GetInstanceRequest { instance_id: id::encode(&wanted) };
    decode(client.get_instance(request).await)
}

pub(super) async fn instances(mut client: Client) -> Result<Vec<InstanceStatus>, Failure> {
    let answer = client.list_instances(v1::ListInstancesRequest {}).await.map_err(failure)?.into_inner();
    answer.instances.into_iter().map(InstanceStatus::try_from).collect::<Result<_, _>>().map_err(nonsense)
}

pub(super) async fn account(
    mut client: Client,
    instance: InstanceId,
    login: &LoginName,
    since: Timestamp,
) -> Result<Account, Failure> {
    let request = v1::GetAccountRequest {
        instance_id: id::encode(&instance),
        login_name: login.as_str().to_owned(),
        since_us: time::encode(since),
    };
    decode(client.get_account(request).await)
}

pub(super) async fn sessions(mut client: Client, instance: InstanceId) -> Result<Vec<GuestSession>, Failure> {
    let request = v1::ListSessionsRequest { instance_id: id::encode(&instance) };
    let answer = client.list_sessions(request).await.map_err(failure)?.into_inner();
    answer.sessions.into_iter().map(GuestSession::try_from).collect::<Result<_, _>>().map_err(nonsense)
}

pub(super) async fn suspend_at(mut client: Client, mutation: Mutation, at: Option<Timestamp>) -> Result<(), Failure> {
    let mutation = Some(v1::Mutation::from(&mutation));
    let request = v1::ScheduleSuspensionRequest { mutation, suspend_at_us: at.map_or(0, time::encode) };
    client.schedule_suspension(request).await.map(drop).map_err(failure)
}

pub(super) async fn template_prepare(mut client: Client, template: &Template) -> Result<TemplatePresence, Failure> {
    let request = v1::PrepareTemplateRequest { template: Some(template.into()) };
    let answer = client.prepare_template(request).await.map_err(failure)?.into_inner();
    let missing = || nonsense(Failure::field("presence", "must be present"));
    TemplatePresence::try_from(answer.presence.ok_or_else(missing)?).map_err(nonsense)
}

pub(super) async fn inventory(mut client: Client) -> Result<(NodeInventory, NodeLoad), Failure> {
    let answer = client.get_inventory(v1::GetInventoryRequest {}).await.map_err(failure)?.into_inner();
    let missing = || nonsense(Failure::field("inventory", "must be present"));
    let inventory = NodeInventory::try_from(answer.inventory.ok_or_else(missing)?).map_err(nonsense)?;
    let load = match answer.load {
        Some(load) => NodeLoad::try_from(load).map_err(nonsense)?,
        None => NodeLoad::default(),
    };
    Ok((inventory, load))
}

fn milliseconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis()).unwrap_or(u32::MAX)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn failure(status: Status) -> Failure {
    from_status(&status)
}

fn decode<W, T: TryFrom<W, Error = Failure>>(answer: Result<Response<W>, Status>) -> Result<T, Failure> {
    T::try_from(answer.map_err(failure)?.into_inner()).map_err(nonsense)
}

/// An answer that breaks the contract is a defect of the node, not of whoever asked.
fn nonsense(failure: Failure) -> Failure {
    Failure::internal(format!("the node's answer breaks the contract: {failure}"))
}

fn same(asked: OperationId, answered: OperationId) -> Result<(), Failure> {
    if asked == answered {
        return Ok(());
    }
    Err(Failure::new(Reason::Internal, "the node answered about another operation")
        .with_context(format!("asked for {asked}, got {answered}")))
}
