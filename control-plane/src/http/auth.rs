//! Who asks: API keys in the Authorization header, each endpoint with the scope that it demands.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use jiff::Timestamp;
use nemordp_model::{ApiKey, ApiScope};
use nemordp_store::TenantScope;
use nemordp_types::{ApiKeyId, Failure, Reason, TenantId};

use super::Api;
use super::error::HttpError;
use crate::app::Orderer;

/// Failed attempts of one address that are answered within one window; further ones are refused unheard.
const FAILURES_MAX: u32 = 20;
const WINDOW_SECONDS: i64 = 60;
/// Addresses that are remembered; beyond it the oldest windows are forgotten.
const ADDRESSES_MAX: usize = 8_192;

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientAddress(pub(super) SocketAddr);

/// The key that a request came with.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallerKey(pub(super) ApiKeyId);

/// What an endpoint demands of a key.
pub(super) trait Demand: Send + Sync + 'static {
    /// The scope.
    const SCOPE: ApiScope;
}

macro_rules! demands {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name;

        impl Demand for $name {
            const SCOPE: ApiScope = ApiScope::$name;
        }
    )*};
}

demands! {
    /// Placing orders, acting on their instances.
    Orders,
    /// Reading.
    Read,
    /// Operating.
    Operate,
    /// Keys and tickets.
    Admin,
}

/// Whoever asks, with a key that has the demanded scope.
#[derive(Debug)]
pub(super) struct Caller<D: Demand> {
    /// The key.
    pub(super) key: ApiKey,
    demand: PhantomData<D>,
}

impl<D: Demand> Caller<D> {
    /// Whose things the caller sees: the operator's keys everybody's, the others their tenant's.
    pub(super) fn tenants(&self) -> TenantScope {
        if self.is_operator() { TenantScope::All } else { TenantScope::Only(self.key.tenant_id) }
    }

    /// Whether it is an operator's key.
    pub(super) fn is_operator(&self) -> bool {
        self.key.scopes.contains(ApiScope::Operate)
    }

    /// Whose orders it places, and where those may lie.
    pub(super) const fn orderer(&self) -> Orderer {
        Orderer { tenant_id: self.key.tenant_id, pinned: self.key.tenant_pinned }
    }

    /// Whose customers' orders it places.
    pub(super) const fn tenant_id(&self) -> TenantId {
        self.key.tenant_id
    }
}

impl<D: Demand> FromRequestParts<Api> for Caller<D> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, HttpError> {
        let address = client_address(parts, api.app.config.http.behind_proxy);
        api.throttle.admit(address, api.app.clock.now())?;
        let secret = bearer(parts);
        let key = match secret {
            Some(secret) => api.app.authenticate(secret).await?,
            None => None,
        };
        let Some(key) = key else {
            api.throttle.failed(address, api.app.clock.now());
            api.telemetry.authentication_failed();
            return Err(HttpError(Failure::new(
                Reason::Unauthenticated,
                "send `Authorization: Bearer <key>` with a key that `nemordp-control-plane key create` made",
            )));
        };
        key.scopes.require(D::SCOPE)?;
        parts.extensions.insert(CallerKey(key.id));
        Ok(Self { key, demand: PhantomData })
    }
}

fn bearer(parts: &Parts) -> Option<&str> {
    let mut values = parts.headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

/// The peer, or, behind a stated proxy, whom the proxy names last.
pub(super) fn client_address(parts: &Parts, behind_proxy: bool) -> Option<IpAddr> {
    let peer = parts.extensions.get::<ClientAddress>().map(|address| address.0.ip());
    if !behind_proxy {
        return peer;
    }
    let forwarded = parts.headers.get_all("x-forwarded-for").iter().next_back();
    let named = forwarded.and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
    named.or(peer)
}

/// Bounds the failed attempts of each address, in fixed windows.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<HashMap<IpAddr, (Timestamp, u32)>>);

impl Throttle {
    /// Refuses an address that failed too often.
    pub(super) fn admit(&self, address: Option<IpAddr>, now: Timestamp) -> Result<(), Failure> {
        let Some(address) = address else { return Ok(()) };
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.get(&address) {
            Some((since, count)) if *count >= FAILURES_MAX && !is_over(*since, now) => Err(Failure::new(
                Reason::RateLimited,
                "too many attempts without a valid secret from this address: wait a minute",
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Notes a failed attempt.
    pub(super) fn failed(&self, address: Option<IpAddr>, now: Timestamp) {
        let Some(address) = address else { return };
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= ADDRESSES_MAX && !failures.contains_key(&address) {
            failures.retain(|_, (since, _)| !is_over(*since, now));
            if failures.len() >= ADDRESSES_MAX {
                failures.clear();
            }
        }
        let entry = failures.entry(address).or_insert((now, 0));
        if is_over(entry.0, now) {
            *entry = (now, 0);
        }
        entry.1 = entry.1.saturating_add(1);
    }
}

fn is_over(since: Timestamp, now: Timestamp) -> bool {
    !(0..WINDOW_SECONDS).contains(&(now.as_second() - since.as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_fails_too_often_waits_and_others_do_not() {
        let throttle = Throttle::default();
        let (bad, good) = (Some(IpAddr::from([192, 0, 2, 1])), Some(IpAddr::from([192, 0, 2, 2])));
        let at = |second| Timestamp::from_second(second).unwrap();
        for _ in 0..FAILURES_MAX {
            throttle.admit(bad, at(100)).unwrap();
            throttle.failed(bad, at(100));
        }
        assert_eq!(throttle.admit(bad, at(101)).unwrap_err().reason, Reason::RateLimited);
        assert!(throttle.admit(good, at(101)).is_ok());
        assert!(throttle.admit(bad, at(100 + WINDOW_SECONDS)).is_ok());
    }
}
