//! JSON Web Tokens (RFC 7519), as etcd makes and takes them: the claims `username`, `revision`, `exp`.
//!
//! Responsible for the option's text (`--auth-token jwt,...`), for the keys and for the tokens. Members
//! that share the keys take each other's tokens, and those that others have made with them.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jangada_kv::auth::Caller;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::config::{Kind, Value};

/// How long a token is good unless the option says otherwise; etcd's figure.
const TTL_DEFAULT: Duration = Duration::from_secs(5 * 60);

/// Makes and reads tokens. A clone shares the keys.
#[derive(Clone)]
pub struct Jwt {
    inner: Arc<Inner>,
}

struct Inner {
    algorithm: Algorithm,
    ttl: Duration,
    /// `None` in a member that only verifies.
    signing: Option<EncodingKey>,
    verifying: DecodingKey,
}

/// Why the option cannot be used, as a sentence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JwtError(String);

impl fmt::Display for JwtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for JwtError {}

/// etcd's claims. Its numbers are what JavaScript has.
#[derive(Serialize, Deserialize)]
struct Claims {
    username: String,
    revision: f64,
    #[serde(default)]
    exp: u64,
}

#[derive(Default)]
struct Options<'a> {
    sign_method: Option<&'a str>,
    pub_key: Option<&'a str>,
    priv_key: Option<&'a str>,
    ttl: Option<Duration>,
}

impl Jwt {
    /// Reads what stands behind `jwt` in the option, and the files that it names.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_options(text: &str) -> Result<Jwt, JwtError> {
        let options = Options::parse(text)?;
        let method = options.sign_method.ok_or_else(|| {
            problem("it names no sign-method; write sign-method=RS256 or another")
        })?;
        let algorithm = Algorithm::from_str(method).map_err(|_| {
            problem(format!(
                "there is no sign-method '{method}'; there are RS256, RS384, RS512, PS256, PS384, \
                 PS512, ES256, ES384, EdDSA, HS256, HS384 and HS512"
            ))
        })?;
        let private = options.priv_key.map(read).transpose()?;
        let public = options.pub_key.map(read).transpose()?;
        let family = algorithm.family();
        let signing = private.as_deref().map(|key| signing_key(family, key)).transpose()?;
        let verifying = match (family, &private, &public) {
            (AlgorithmFamily::Hmac, Some(secret), _) => DecodingKey::from_secret(secret),
            (AlgorithmFamily::Hmac, None, _) => {
                return Err(problem("its sign-method needs priv-key, a file with the secret"));
            }
            (_, _, Some(public)) => verifying_key(family, public)?,
            (_, _, None) => {
                return Err(problem("it names no pub-key, the file that tokens are verified with"));
            }
        };
        let ttl = options.ttl.unwrap_or(TTL_DEFAULT);
        let jwt = Jwt { inner: Arc::new(Inner { algorithm, ttl, signing, verifying }) };
        // A private key that belongs to another public key would make tokens that nobody takes.
        if let Some(token) = jwt.issue("probe", 1)
            && jwt.read(token.as_bytes()).is_none()
        {
            return Err(problem("its public and private keys do not belong together"));
        }
        Ok(jwt)
    }

    /// A token; `None` if there is no key to sign with.
    pub(super) fn issue(&self, user: &str, revision: u64) -> Option<String> {
        let Inner { algorithm, ttl, signing, .. } = &*self.inner;
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let exp = since.saturating_add(*ttl).as_secs();
        let claims = Claims { username: user.to_owned(), revision: revision as f64, exp };
        jsonwebtoken::encode(&Header::new(*algorithm), &claims, signing.as_ref()?).ok()
    }

    /// Whose token it is, if it is one and good.
    pub(super) fn read(&self, token: &[u8]) -> Option<Caller> {
        let mut validation = Validation::new(self.inner.algorithm);
        validation.leeway = 0;
        validation.validate_aud = false;
        validation.validate_nbf = true;
        // As in etcd a token without an end is good until permissions change.
        validation.required_spec_claims.clear();
        let read = jsonwebtoken::decode::<Claims>(token, &self.inner.verifying, &validation);
        let Claims { username, revision, .. } = read.ok()?.claims;
        Some(Caller { user: username, revision: revision as u64 })
    }
}

impl<'a> Options<'a> {
    fn parse(text: &'a str) -> Result<Options<'a>, JwtError> {
        let mut options = Options::default();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| problem(format!("'{pair}' is no option; write name=value")))?;
            let before = match name {
                "sign-method" => options.sign_method.replace(value).is_some(),
                "pub-key" => options.pub_key.replace(value).is_some(),
                "priv-key" => options.priv_key.replace(value).is_some(),
                "ttl" => match Value::parse(Kind::Duration, value) {
                    Ok(Value::Duration(ttl)) => options.ttl.replace(ttl).is_some(),
                    _ => return Err(problem(format!("'{value}' is no ttl; write 10m or 300s"))),
                },
                _ => {
                    return Err(problem(format!(
                        "there is no option '{name}'; there are sign-method, pub-key, priv-key and \
                         ttl"
                    )));
                }
            };
            if before {
                return Err(problem(format!("it has {name} twice")));
            }
        }
        Ok(options)
    }
}

fn problem(text: impl Into<String>) -> JwtError {
    JwtError(text.into())
}

fn read(path: &str) -> Result<Vec<u8>, JwtError> {
    std::fs::read(Path::new(path))
        .map_err(|error| problem(format!("the key file {path} cannot be read: {error}")))
}

fn signing_key(family: AlgorithmFamily, pem: &[u8]) -> Result<EncodingKey, JwtError> {
    let key = match family {
        AlgorithmFamily::Hmac => Ok(EncodingKey::from_secret(pem)),
        AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(pem),
        AlgorithmFamily::Ec => EncodingKey::from_ec_pem(pem),
        AlgorithmFamily::Ed => EncodingKey::from_ed_pem(pem),
    };
    key.map_err(|_| {
        problem(
            "priv-key is no PEM file with a private key for the sign-method; a key that begins with \
             'BEGIN EC PRIVATE KEY' must be converted: openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW",
        )
    })
}

fn verifying_key(family: AlgorithmFamily, pem: &[u8]) -> Result<DecodingKey, JwtError> {
    let key = match family {
        AlgorithmFamily::Hmac => Ok(DecodingKey::from_secret(pem)),
        AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem),
        AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem),
        AlgorithmFamily::Ed => DecodingKey::from_ed_pem(pem),
    };
    key.map_err(|_| problem("pub-key is no PEM file with a public key for the sign-method"))
}

impl PartialEq for Jwt {
    fn eq(&self, other: &Jwt) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for Jwt {}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { algorithm, ttl, signing, .. } = &*self.inner;
        write!(f, "Jwt({algorithm:?}, {ttl:?}, signs: {})", signing.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A folder with a key pair of the test alone, made for it.
    fn keys() -> (tempfile::TempDir, PathBuf, PathBuf) {
        use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
        use base64::Engine as _;
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key is made");
        let private = pair.to_pkcs8v1().expect("it has a form");
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("it has a form");
        let folder = tempfile::tempdir().expect("a folder is made");
        let pem = |name: &str, label: &str, der: &[u8]| {
            let path = folder.path().join(name);
            let body = base64::engine::general_purpose::STANDARD.encode(der);
            let text = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
            std::fs::write(&path, text).expect("the folder can be written");
            path
        };
        let private = pem("private", "PRIVATE KEY", private.as_ref());
        let public = pem("public", "PUBLIC KEY", public.as_ref());
        (folder, private, public)
    }

    #[test]
    fn a_token_is_read_by_whoever_has_the_public_key() {
        let (_folder, private, public) = keys();
        let options = format!(
            "sign-method=ES256,priv-key={},pub-key={},ttl=10m",
            private.display(),
            public.display()
        );
        let signer = Jwt::of_options(&options).expect("the options are good");
        let verifier = format!("sign-method=ES256,pub-key={}", public.display());
        let verifier = Jwt::of_options(&verifier).expect("the options are good");
        let token = signer.issue("u", 17).expect("it has a key");
        let expected = Some(Caller { user: "u".to_owned(), revision: 17 });
        assert_eq!(verifier.read(token.as_bytes()), expected);
        assert_eq!(verifier.issue("u", 17), None, "it has no key to sign with");
        assert_eq!(verifier.read(b"x.y.z"), None);

        // Neither a token without a signature nor one of another method is believed.
        let (_, claims) = token.split_once('.').expect("a token has three parts");
        let (claims, _) = claims.split_once('.').expect("a token has three parts");
        let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.");
        assert_eq!(verifier.read(unsigned.as_bytes()), None);
        let secret = format!("sign-method=HS256,priv-key={}", public.display());
        let forger = Jwt::of_options(&secret).expect("the options are good");
        let forged = forger.issue("root", 99).expect("it has a secret");
        assert_eq!(verifier.read(forged.as_bytes()), None);
        assert!(!format!("{forger:?}").contains("BEGIN"));
    }

    #[test]
    fn a_token_ends() {
        let (_folder, private, public) = keys();
        let (private, public) = (private.display(), public.display());
        let options = format!("sign-method=ES256,priv-key={private},pub-key={public}");
        let jwt = Jwt::of_options(&options).expect("the options are good");
        let over = Claims { username: "u".to_owned(), revision: 1.0, exp: 1_000_000 };
        let signing = jwt.inner.signing.as_ref().expect("it signs");
        let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &over, signing);
        assert_eq!(jwt.read(token.expect("it is made").as_bytes()), None);
    }

    #[test]
    fn what_is_wrong_with_the_option_is_said() {
        let (_folder, private, public) = keys();
        let (_other_folder, _, other) = keys();
        let (private, public, other) = (private.display(), public.display(), other.display());
        for (options, says) in [
            (String::new(), "names no sign-method"),
            ("sign-method=XX".to_owned(), "there is no sign-method 'XX'"),
            ("sign-method=ES256".to_owned(), "names no pub-key"),
            ("sign-method=HS256".to_owned(), "needs priv-key"),
            ("sign-method=ES256,pub-key=/nowhere".to_owned(), "cannot be read"),
            (format!("sign-method=RS256,pub-key={public}"), "pub-key is no PEM file"),
            (format!("sign-method=ES256,priv-key={public},pub-key={public}"), "priv-key is no PEM"),
            (
                format!("sign-method=ES256,priv-key={private},pub-key={other}"),
                "do not belong together",
            ),
            ("sign-method=ES256,ttl=x".to_owned(), "is no ttl"),
            ("sign-method=ES256,sign-method=ES256".to_owned(), "sign-method twice"),
            ("alg=ES256".to_owned(), "there is no option 'alg'"),
            ("alg".to_owned(), "write name=value"),
        ] {
            let error = Jwt::of_options(&options).expect_err(&options).to_string();
            assert!(error.contains(says), "{options}: {error}");
        }
    }
}
