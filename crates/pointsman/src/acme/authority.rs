//! Takes the steps of orders with an authority (RFC 8555), one request or a few at a time. Keeps nothing but the account;
//! never tries again, never waits for long.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use instant_acme::{
    Account, AccountCredentials, CertificateIdentifier, ChallengeStatus, ChallengeType, Error, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, OrderStatus, Problem as AcmeProblem, RevocationReason, RevocationRequest,
};
use pointsman_native::certificate_fault;
use pointsman_store::{Store, StoreError};
use pointsman_table::{AcmeTerms, Cert, CertKeyKind, ChallengeKind};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::time::timeout;
use tracing::warn;

use super::client::{AuthorityClient, ComeAgain};
use super::order::{Challenge, IssuedFacts, Sight, Trouble, TroubleKind};

/// How long one step may take.
const WITHIN: Duration = Duration::from_secs(45);
/// How long to wait if the authority limits us and does not say for how long, seconds.
const LIMITED: i64 = 3600;
/// The length of what keeps an account's place in the store, about its own, bytes.
const PLACE: usize = 1024;
/// How often a step is taken again at once because of a nonce.
const NONCES: usize = 10;
/// The most of an authority's words that is kept, characters.
const LONGEST_WORDS: usize = 500;
/// The longest token that is answered, characters: authorities have about 43.
const LONGEST_TOKEN: usize = 128;
/// What the types of its problems begin with (RFC 8555 §6.7).
const ERRORS: &str = "urn:ietf:params:acme:error:";

/// An authority that has our account.
pub(super) struct Authority {
    account: Account,
    come_again: ComeAgain,
    terms: AcmeTerms,
}

/// A certificate as the authority issued it, with its key, and what is known of it.
pub(super) struct NewCert {
    pub(super) pem: String,
    pub(super) facts: IssuedFacts,
    /// When the authority wants it renewed.
    pub(super) window: Option<(i64, i64)>,
}

impl Authority {
    /// The account that is in the store; else a new one, which goes there.
    pub(super) async fn open(
        store: &Store,
        folder: &str,
        terms: &AcmeTerms,
        ca: Option<&Path>,
    ) -> Result<Self, Trouble> {
        let client = AuthorityClient::new(ca).map_err(|error| Trouble::passing(format!("{error:#}")))?;
        let come_again = client.come_again();
        let key = account_key(folder, &terms.directory);
        let unkept = |error: StoreError| Trouble::passing(format!("the store does not take our account: {error}"));
        let kept = store.get(&key).await.map_err(|error| Trouble::passing(error.to_string()))?;
        let kept = kept.and_then(|text| serde_json::from_slice::<AccountCredentials>(&text).ok());
        if kept.is_none() {
            // An authority counts accounts: none is made that the store has no room for. If there is something, it is no account.
            store.create(&key, &[b' '; PLACE]).await.map_err(unkept)?;
        }
        let builder = Account::builder_with_http(Box::new(client));
        let opened = async {
            match kept {
                Some(credentials) => builder.from_credentials(credentials).await.map(|account| (account, None)),
                None => {
                    let (account, credentials) = create(builder, terms).await?;
                    Ok((account, Some(credentials)))
                }
            }
        };
        let (account, new) = within(opened, &come_again).await?;
        if new.is_none() && !terms.contact.is_empty() {
            // They may be others than at the time when the account was made.
            let contact: Vec<&str> = terms.contact.iter().map(|contact| &**contact).collect();
            if let Err(trouble) = within(account.update_contacts(&contact), &come_again).await {
                warn!("config/acme/contact is not told to the authority: {}", trouble.said);
            }
        }
        if let Some(credentials) = new {
            let text = serde_json::to_vec(&credentials).map_err(|error| Trouble::passing(error.to_string()))?;
            // If another leader was first, the next term finds its account.
            let is_none = |old: &[u8]| serde_json::from_slice::<AccountCredentials>(old).is_err();
            store.amend(&key, |old| is_none(old).then(|| text.clone())).await.map_err(unkept)?;
        }
        Ok(Self { account, come_again, terms: terms.clone() })
    }

    /// Whether it was opened on these terms.
    pub(super) fn is_of(&self, terms: &AcmeTerms) -> bool {
        self.terms == *terms
    }

    /// The URL of its directory.
    pub(super) fn directory(&self) -> &str {
        &self.terms.directory
    }

    /// Whether this is the URL of its directory.
    pub(super) fn is_at(&self, directory: &str) -> bool {
        *self.terms.directory == *directory
    }

    /// Forgets the account in the store: the authority does not know it.
    pub(super) async fn forget(&self, store: &Store, folder: &str) {
        let _ = store.delete(&account_key(folder, &self.terms.directory), false).await;
    }

    /// Orders a certificate for one name. Returns the order's URL.
    pub(super) async fn order(&self, name: &str, replaces: Option<&str>) -> Result<String, Trouble> {
        let names = [Identifier::Dns(name.to_owned())];
        let mut order = NewOrder::new(&names);
        if let Some(profile) = &self.terms.profile {
            order = order.profile(profile);
        }
        if let Some(id) = replaces.and_then(identifier) {
            order = order.replaces(id);
        }
        let order = within(self.account.new_order(&order), &self.come_again).await?;
        Ok(order.url().to_owned())
    }

    /// How far an order is.
    pub(super) async fn look(&self, url: &str, keyed: bool, kind: ChallengeKind) -> Result<Sight, Trouble> {
        let looked = async {
            let mut order = self.account.order(url.to_owned()).await?;
            let (status, error) = (order.state().status, order.state().error.clone());
            if let Some(error) = error {
                return Ok(Err(over(&error)));
            }
            Ok(match status {
                OrderStatus::Ready => Ok(Sight::Ready { key: None }),
                OrderStatus::Processing => Ok(Sight::Signing),
                OrderStatus::Valid => Ok(Sight::Signed),
                OrderStatus::Pending | OrderStatus::Invalid => self.challenge(&mut order, kind).await?,
            })
        };
        match within(looked, &self.come_again).await?? {
            Sight::Ready { .. } if !keyed => Ok(Sight::Ready { key: Some(new_key(self.terms.key).await?) }),
            sight => Ok(sight),
        }
    }

    /// How far the challenge of an order's one name is, or why the order is over.
    async fn challenge(
        &self,
        order: &mut instant_acme::Order,
        kind: ChallengeKind,
    ) -> Result<Result<Sight, Trouble>, Error> {
        let ended = || {
            let word = kind.word();
            Ok(Err(Trouble::refusal(format!("the authority does not ask for {word}, or ended the order"))))
        };
        let mut authorizations = order.authorizations();
        let Some(authorization) = authorizations.next().await else { return ended() };
        let mut authorization = authorization?;
        let Some(challenge) = authorization.challenge(type_of(kind)) else { return ended() };
        if let Some(error) = &challenge.error {
            return Ok(Err(over(error)));
        }
        if !is_token(&challenge.token) {
            return Ok(Err(Trouble::refusal("the authority's token is none: expected base64url (RFC 8555 §8.3)")));
        }
        match challenge.status {
            ChallengeStatus::Pending => {
                let proof = challenge.key_authorization();
                let answer = match kind {
                    ChallengeKind::Http => proof.as_str().to_owned(),
                    ChallengeKind::Tls => {
                        let made = challenge_cert(&challenge.identifier().to_string(), proof.digest().as_ref());
                        made.map_err(|error| Error::Other(error.into()))?
                    }
                    ChallengeKind::Dns => proof.dns_value(),
                };
                Ok(Ok(Sight::Pending(Challenge { token: challenge.token.clone(), answer, kind })))
            }
            ChallengeStatus::Processing | ChallengeStatus::Valid => Ok(Ok(Sight::Checking)),
            ChallengeStatus::Invalid => ended(),
        }
    }

    /// Tells the authority that the challenge is answered.
    pub(super) async fn tell(&self, url: &str, kind: ChallengeKind) -> Result<(), Trouble> {
        let told = async {
            let mut order = self.account.order(url.to_owned()).await?;
            let mut authorizations = order.authorizations();
            while let Some(authorization) = authorizations.next().await {
                let mut authorization = authorization?;
                let challenge = authorization.challenge(type_of(kind));
                // The leader before us may have told it.
                if let Some(mut challenge) = challenge.filter(|challenge| challenge.status == ChallengeStatus::Pending)
                {
                    challenge.set_ready().await?;
                }
            }
            Ok(())
        };
        within(told, &self.come_again).await
    }

    /// Asks for the signature.
    pub(super) async fn finalize(&self, url: &str, name: &str, key: &str) -> Result<(), Trouble> {
        let request = request(name, key).map_err(|error| Trouble::refusal(error.to_string()))?;
        let finalized = async {
            let mut order = self.account.order(url.to_owned()).await?;
            order.finalize_csr(&request).await
        };
        within(finalized, &self.come_again).await
    }

    /// Fetches the certificate of an order, which is for this name.
    pub(super) async fn fetch(&self, url: &str, name: &str, key: &str) -> Result<NewCert, Trouble> {
        let fetched = async {
            let mut order = self.account.order(url.to_owned()).await?;
            order.certificate().await
        };
        let chain = within(fetched, &self.come_again).await?;
        let chain = chain.ok_or_else(|| Trouble::passing("the certificate is not ready yet"))?;
        let pem = format!("{}\n{}\n", chain.trim_end(), key.trim_end());
        let mut facts = facts(&pem, name, &self.terms.directory)?;
        let asked = match facts.id.as_deref() {
            Some(id) => self.consult(id).await,
            None => Ok(None),
        };
        if let Ok(None) = asked {
            // Without renewal information, its name is of no use.
            facts.id = None;
        }
        let window = asked.ok().flatten().map(|(window, _)| window);
        Ok(NewCert { pem, facts, window })
    }

    /// Has a certificate revoked (RFC 8555 §7.6). One that is revoked already is done.
    pub(super) async fn revoke(&self, der: &[u8], reason: RevocationReason) -> Result<(), Trouble> {
        let certificate = CertificateDer::from(der);
        let request = RevocationRequest { certificate: &certificate, reason: Some(reason) };
        match within(self.account.revoke(&request), &self.come_again).await {
            Err(trouble) if trouble.said.starts_with("the authority says alreadyRevoked") => Ok(()),
            done => done,
        }
    }

    /// When the authority wants a certificate renewed (RFC 9773), and in how many seconds to ask again. `None`: it does not say
    /// for any.
    pub(super) async fn consult(&self, id: &str) -> Result<Option<((i64, i64), i64)>, Trouble> {
        let Some(id) = identifier(id) else { return Ok(None) };
        let asked = async {
            match self.account.renewal_info(&id).await {
                Err(Error::Unsupported(_)) => Ok(None),
                asked => asked.map(Some),
            }
        };
        let asked = within(asked, &self.come_again).await?;
        Ok(asked.map(|(info, again)| {
            let window = info.suggested_window;
            let again = i64::try_from(again.as_secs()).unwrap_or(i64::MAX);
            ((window.start.unix_timestamp(), window.end.unix_timestamp()), again)
        }))
    }
}

async fn create(
    builder: instant_acme::AccountBuilder,
    terms: &AcmeTerms,
) -> Result<(Account, AccountCredentials), Error> {
    let contact: Vec<&str> = terms.contact.iter().map(|contact| &**contact).collect();
    let account = NewAccount { contact: &contact, terms_of_service_agreed: terms.agree, only_return_existing: false };
    let eab = terms.eab.as_ref().map(|(id, key)| {
        use base64::Engine as _;
        let key = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&**key).unwrap_or_default();
        ExternalAccountKey::new(id.to_string(), &key)
    });
    builder.create(&account, terms.directory.to_string(), eab.as_ref()).await
}

/// One account for each directory.
fn account_key(folder: &str, directory: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = directory.trim_start_matches("https://").chars().map(plain).collect();
    format!("{folder}/accounts/{name}")
}

/// Waits for a step, and tells refusals from what may pass.
async fn within<T>(step: impl Future<Output = Result<T, Error>>, come_again: &ComeAgain) -> Result<T, Trouble> {
    come_again.take();
    // An authority may say what the library does not expect.
    let step = AssertUnwindSafe(Box::pin(step)).catch_unwind();
    match timeout(WITHIN, step).await {
        Ok(Ok(Ok(done))) => Ok(done),
        Ok(Ok(Err(error))) => Err(trouble(&error, come_again.take())),
        Ok(Err(_)) => Err(Trouble::passing("the authority says what cannot be understood; the log has more")),
        Err(_) => Err(Trouble::passing(format!("the authority did not answer within {} s", WITHIN.as_secs()))),
    }
}

fn trouble(error: &Error, wait: Option<i64>) -> Trouble {
    let Error::Api(problem) = error else {
        let mut said = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            said = format!("{said}: {cause}");
            source = cause.source();
        }
        return Trouble { wait, ..Trouble::passing(cut(&format!("cannot talk to the authority: {said}"))) };
    };
    let kind = problem.r#type.as_deref().unwrap_or_default();
    let kind = kind.strip_prefix(ERRORS).unwrap_or(kind);
    let wait = if kind == "rateLimited" { Some(wait.unwrap_or(LIMITED)) } else { wait };
    // An account that is gone is made anew. What names no kind comes from something between us. The order is there still.
    let is_passing = matches!(kind, "" | "badNonce" | "serverInternal" | "rateLimited" | "accountDoesNotExist")
        || problem.status.is_some_and(|status| status >= 500);
    let means = if is_passing { TroubleKind::Passing } else { TroubleKind::Refusal };
    Trouble { said: words(kind, problem), kind: means, wait }
}

/// Why an order is over: what its object says.
fn over(problem: &AcmeProblem) -> Trouble {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    Trouble::refusal(words(kind.strip_prefix(ERRORS).unwrap_or(kind), problem))
}

/// The authority's own words.
fn words(kind: &str, problem: &AcmeProblem) -> String {
    let parts = problem.subproblems.iter().filter_map(|part| part.detail.as_deref());
    let details: Vec<_> = problem.detail.as_deref().into_iter().chain(parts).collect();
    cut(&format!("the authority says {kind}: {}", details.join("; ")))
}

/// As much of a text as is kept.
fn cut(said: &str) -> String {
    said.chars().take(LONGEST_WORDS).collect()
}

/// Whether this is a token (RFC 8555 §8.3), and not a long one: balancers tell each other which they answer.
fn is_token(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=LONGEST_TOKEN).contains(&text.len()) && text.bytes().all(is_plain)
}

/// Takes a step again while the authority refuses its nonces, which are not ours to choose (RFC 8555 §6.5): nothing was
/// done then.
pub(super) async fn again<T, S: Future<Output = Result<T, Trouble>>>(step: impl Fn() -> S) -> Result<T, Trouble> {
    for _ in 0..NONCES {
        match step().await {
            Err(trouble) if trouble.said.starts_with("the authority says badNonce") => {}
            done => return done,
        }
    }
    step().await
}

/// Whether the authority does not know our account.
pub(super) fn is_account_gone(trouble: &Trouble) -> bool {
    trouble.said.starts_with("the authority says accountDoesNotExist")
}

fn identifier(id: &str) -> Option<CertificateIdentifier<'_>> {
    let (authority, serial) = id.split_once('.')?;
    Some(CertificateIdentifier { authority_key_identifier: authority.into(), serial: serial.into() })
}

/// A key for RSA takes long: not on the thread that keeps leases and publishes tables.
async fn new_key(kind: CertKeyKind) -> Result<String, Trouble> {
    let made = tokio::task::spawn_blocking(move || match kind {
        CertKeyKind::P256 => KeyPair::generate(),
        CertKeyKind::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
    });
    let wrong = |why: &dyn std::fmt::Display| Trouble::passing(format!("no key can be made: {why}"));
    let made = made.await.map_err(|error| wrong(&error))?;
    made.map(|key| key.serialize_pem()).map_err(|error| wrong(&error))
}

fn type_of(kind: ChallengeKind) -> ChallengeType {
    match kind {
        ChallengeKind::Http => ChallengeType::Http01,
        ChallengeKind::Tls => ChallengeType::TlsAlpn01,
        ChallengeKind::Dns => ChallengeType::Dns01,
    }
}

/// The certificate that answers a challenge of the kind tls-alpn-01 (RFC 8737 §3), and its key, in PEM form. `digest`: of
/// the key authorization, by SHA-256.
fn challenge_cert(name: &str, digest: &[u8]) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let cert = params.self_signed(&key)?;
    Ok(format!("{}{}", cert.pem(), key.serialize_pem()))
}

/// The request to sign (RFC 2986), in DER.
fn request(name: &str, key: &str) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&KeyPair::from_pem(key)?)?;
    Ok(request.der().to_vec())
}

/// What the first certificate of a chain says of itself.
///
/// # Errors
/// It cannot be used for this name: it must not take the place of another one.
fn facts(pem: &str, name: &str, directory: &str) -> Result<IssuedFacts, Trouble> {
    let wrong = |what: &str| Trouble::refusal(format!("the authority issued what cannot be used for {name}: {what}"));
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| wrong("no PEM"))?;
    let cert = Cert::parse(pem).map_err(|why| wrong(&why))?;
    if let Some(fault) = certificate_fault(pem) {
        return Err(wrong(fault));
    }
    if !cert.names.iter().any(|own| **own == *name) {
        return Err(wrong("it is for other names"));
    }
    let id = CertificateIdentifier::try_from(&der).ok().map(|id| id.to_string());
    Ok(IssuedFacts {
        from: cert.not_before,
        until: cert.not_after,
        issuer: cert.issuer(),
        renew: 0,
        id,
        directory: directory.to_owned(),
    })
}

/// The present, in seconds since the epoch.
pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed()
}
