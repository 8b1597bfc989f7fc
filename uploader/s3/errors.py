"""What an answer of S3 means for the run: one table. Pure.

Codes are those of the Amazon S3 API Reference, "Error responses"; the statuses stand in where a
server gives no code (HEAD never has one).
"""

from __future__ import annotations

from dataclasses import dataclass

from headgate.settings.units import human_duration
from uploader.wire.errors import ErrorKind, SendError


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """What one error of S3 means; a row of the table: the codes and statuses it speaks for, what
    to do, and the sentence."""

    kind: ErrorKind
    sentence: str  # {bucket}, {host}, {region}, {skew}, {status} and {code} are filled in
    codes: frozenset[str] = frozenset()
    statuses: frozenset[int] = frozenset()
    methods: frozenset[str] = frozenset({"PUT", "HEAD", "GET", "POST", "DELETE"})
    unknown: bool = False
    rehash: bool = False
    coded: bool = False  # the status alone is not enough: some code must have been given
    bare: bool = False  # the opposite: only an answer without a code of S3's
    words: tuple[str, ...] = ()  # in lower case: any code with one of them in it
    passing: bool = False  # the server's own trouble, which passes: no verdict on the request
    blind: bool = False  # no one may look what the bucket holds


def _rule(kind: ErrorKind, codes: str, statuses: tuple[int, ...], sentence: str) -> ErrorRule:
    return ErrorRule(kind, sentence, frozenset(codes.split()), frozenset(statuses))


THROTTLES = frozenset(
    {
        *("SlowDown", "TooManyRequests", "ThrottlingException", "Throttling"),
        *("RequestLimitExceeded", "BandwidthLimitExceeded", "RequestThrottled"),
    }
)
"""Codes by which S3 asks for fewer requests, of everybody and not for one image."""
_BUSY = THROTTLES | {"ServiceUnavailable", "429", "503"}  # a bare status has no other code
SKEWED = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
"""Codes by which S3 refuses this machine's clock."""
PATH_STYLE_REFUSED = frozenset({"SecondLevelDomainForbidden", "PathStyleDomainForbidden"})
"""Codes of servers that want the bucket in the host name (Alibaba OSS, Tencent COS)."""
OTHER_REGION = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed"})
"""Codes of an answer that says which region is the right one."""
THERE_ALREADY = "PreconditionFailed"  # by the same image? HEAD tells

RULES: tuple[ErrorRule, ...] = (
    ErrorRule(
        ErrorKind.TRANSIENT,
        "HEAD was refused (403), which S3 also says of a key that is not there when s3:ListBucket "
        "is missing; grant s3:GetObject and s3:ListBucket on {bucket} to find out.",
        frozenset({"AccessDenied", "AllAccessDisabled"}),
        frozenset({403}),
        methods=frozenset({"HEAD"}),
        blind=True,
    ),
    ErrorRule(
        ErrorKind.TRANSIENT,
        "S3 says that the bytes it got are not the ones promised; the file is hashed again.",
        frozenset({"BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}),
        rehash=True,
    ),
    ErrorRule(
        ErrorKind.FATAL,
        "The bucket's quota is used up ({code}): raise it, or remove what is no longer needed.",
        frozenset({"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "cap_exceeded"}),
        frozenset({402, 507}),
        words=("quota", "cap_exceeded", "capexceeded", "storagefull", "storagelimit"),
    ),
    ErrorRule(
        ErrorKind.FATAL,
        "{host} does not take a setting of [s3] ({code}): correct s3.storage_class, s3.encryption "
        "or s3.kms_key, or set up on the server what they ask for.",
        frozenset({"InvalidStorageClass", "KMSNotConfigured", "XMinioInsecureSSERequest"}),
        words=("kmsnotconfigured", "storageclass", "encryption"),
    ),
    _rule(
        ErrorKind.FATAL,
        "NoSuchBucket",
        (),
        "There is no bucket {bucket} at {host}; create it, or correct s3.bucket.",
    ),
    _rule(
        ErrorKind.FATAL,
        "InvalidAccessKeyId InvalidClientTokenId",
        (),
        "{host} does not know this access key; give the uploader the right credentials.",
    ),
    _rule(
        ErrorKind.FATAL,
        "SignatureDoesNotMatch InvalidSecurity",
        (),
        "The secret key does not fit the access key; correct the uploader's credentials.",
    ),
    _rule(
        ErrorKind.FATAL,
        "ExpiredToken InvalidToken TokenRefreshRequired ExpiredTokenException",
        (),
        "The session credentials have expired or are not valid; renew them.",
    ),
    _rule(
        ErrorKind.FATAL,
        "RequestTimeTooSkewed RequestExpired",
        (),
        "This machine's clock {skew}; set it (timedatectl set-ntp true). Requests were signed with "
        "the server's time, and refused all the same.",
    ),
    _rule(
        ErrorKind.FATAL,
        "PermanentRedirect AuthorizationHeaderMalformed IllegalLocationConstraintException "
        "TemporaryRedirect Redirect",
        (301, 302, 303, 307, 308),
        "The request for {bucket} was redirected: the bucket is in another region{region} (set "
        "s3.region to it), or something between here and S3 wants a login.",
    ),
    ErrorRule(
        ErrorKind.FATAL,
        "The server takes no requests with the bucket in the path ({code}); set s3.addressing to "
        "auto or virtual.",
        PATH_STYLE_REFUSED,
    ),
    _rule(
        ErrorKind.FATAL,
        "",
        (407,),
        "The proxy wants another name and password (407); correct HTTP_PROXY.",
    ),
    ErrorRule(
        ErrorKind.FATAL,
        "{host} answered {status} with no S3 error in it: something between here and the bucket "
        "refuses (a proxy, a firewall, a login page); let it through, or correct s3.endpoint_url.",
        statuses=frozenset({401, 403, 405, 451}),
        bare=True,
    ),
    _rule(
        ErrorKind.FATAL,
        "AccessDenied AllAccessDisabled AccountProblem NotSignedUp InvalidPayer "
        "MethodNotAllowed AccessForbidden UnauthorizedAccess",
        (401, 403, 405),
        "S3 refused access ({code}); grant these credentials s3:PutObject on {bucket}, "
        "and the key's use if the bucket is encrypted with KMS; set s3.acl if its policy demands "
        "one.",
    ),
    _rule(
        ErrorKind.FATAL,
        "InvalidBucketName BucketRegionError KMS.DisabledException KMS.NotFoundException "
        "KMS.KMSInvalidStateException InvalidBucketState",
        (),
        "The bucket {bucket} cannot take images ({code}); correct its settings or s3.bucket.",
    ),
    _rule(
        ErrorKind.FATAL,
        "NotImplemented",
        (501,),
        "{host} does not know what is asked of it (a checksum or If-None-Match); run "
        "`headgate config check` to see what this server can do.",
    ),
    _rule(
        ErrorKind.PERMANENT,
        "EntityTooLarge EntityTooSmall",
        (413,),
        "S3 refused the image for its size.",
    ),
    _rule(
        ErrorKind.PERMANENT,
        "KeyTooLongError KeyTooLong",
        (414,),
        "The key is longer than S3's 1,024 bytes; shorten s3.prefix, then `headgate retry`.",
    ),
    _rule(
        ErrorKind.PERMANENT,
        "MetadataTooLarge InvalidRequest InvalidArgument InvalidDigest MalformedXML InvalidURI "
        "InvalidTag MissingContentLength RequestHeaderSectionTooLarge InvalidObjectState",
        (),
        "S3 refused this image's request as invalid ({code}).",
    ),
    ErrorRule(
        ErrorKind.TRANSIENT,
        "The key is taken already.",
        frozenset({THERE_ALREADY}),
        frozenset({412}),
        unknown=True,
    ),
    _rule(
        ErrorKind.TRANSIENT,
        "ConditionalRequestConflict OperationAborted",
        (409,),
        "Another request for the same key was under way; it is tried again.",
    ),
    ErrorRule(
        ErrorKind.TRANSIENT,
        "S3 asks for fewer requests ({code}); it is tried again later.",
        THROTTLES,
        frozenset({429, 503}),
        passing=True,
    ),
    ErrorRule(
        ErrorKind.TRANSIENT,
        "S3 gave up waiting for the rest of the request; it is tried again later.",
        frozenset({"RequestTimeout", "IncompleteBody", "RequestTimeoutException"}),
        frozenset({408}),
        passing=True,
    ),
    ErrorRule(
        ErrorKind.TRANSIENT,
        "S3 had trouble of its own ({status} {code}); it is tried again later.",
        frozenset({"InternalError", "ServiceUnavailable", "GatewayTimeout"}),
        frozenset({500, 502, 504}),
        unknown=True,  # a 500 or a gateway's answer may come after the object was stored
        passing=True,
    ),
    _rule(
        ErrorKind.FATAL, "", (404,), "There is no bucket {bucket} at {host} (404); see s3.bucket."
    ),
    ErrorRule(
        ErrorKind.PERMANENT,
        "S3 refused this image's request ({status} {code}).",
        statuses=frozenset({400, 411, 415, 416, 417, 422, 431}),
        methods=frozenset({"PUT"}),  # a HEAD's 400 has no code and may mean anything
        coded=True,  # without a code of S3's own it may be a proxy's answer
    ),
    ErrorRule(
        ErrorKind.TRANSIENT,
        "{host} answered {status} with no S3 error in it; it is tried again later.",
        statuses=frozenset({400, 411, 415, 416, 417, 418, 422, 431}),
        unknown=True,
        bare=True,
    ),
)

_OTHERWISE = ErrorRule(
    ErrorKind.TRANSIENT,
    "S3 gave an answer that Headgate does not know ({status} {code}); it is tried again later.",
    unknown=True,
)


def rule_for(method: str, status: int, code: str) -> ErrorRule:
    """The row for an answer: by its code, else by its status; the first that fits."""
    rows = [rule for rule in RULES if method in rule.methods]
    for rule in rows:
        if code and code in rule.codes:
            return rule
    for rule in rows:
        if any(word in code.lower() for word in rule.words):
            return rule
    for rule in rows:
        if status in rule.statuses and not (rule.bare if code else rule.coded):
            return rule
    return _OTHERWISE


@dataclass(frozen=True, slots=True)
class RequestTarget:
    """What the sentences need to know about where the request went."""

    bucket: str
    host: str
    region: str = ""  # what the server said the right one is
    skew_seconds: float | None = None  # the server's clock less ours


def skew_words(seconds: float | None) -> str:
    """How this machine's clock is wrong, for a sentence that begins with "This machine's clock"."""
    if seconds is None:
        return "differs from the server's"
    return f"is {human_duration(abs(seconds))} {'behind' if seconds > 0 else 'ahead'}"


def classify(
    method: str, status: int, code: str, place: RequestTarget, said: str = ""
) -> SendError:
    """The error that an answer other than success stands for; ``said``: the server's own words."""
    rule = rule_for(method, status, code)
    region = f" ({place.region})" if place.region else ""
    message = rule.sentence.format(
        bucket=place.bucket,
        host=place.host,
        region=region,
        skew=skew_words(place.skew_seconds),
        status=status,
        code=code or status,
    )
    if said and not rule.passing:
        message += f' The server says: "{said}".'
    return SendError(
        rule.kind,
        code or str(status),
        message,
        unknown=rule.unknown,
        rehash=rule.rehash,
        refusal=method == "PUT" and not rule.passing,
        passing=rule.passing,
        slow_down=rule.kind is ErrorKind.TRANSIENT and (code or str(status)) in _BUSY,
        blind=rule.blind,
    )


def not_s3(host: str, status: int, said: str) -> SendError:
    """The error of an answer that no S3 server gives."""
    words = f' It says: "{said}".' if said else ""
    return SendError(
        ErrorKind.FATAL,
        "not-s3",
        f"{host} answers {status} with nothing in it that S3 says (no ETag): "
        "a login page or another web server stands between here and the bucket. Log in, let "
        f"Headgate through, or correct s3.endpoint_url.{words}",
        unknown=True,
        refusal=True,
    )


def not_confirmed(message: str) -> SendError:
    """The error of a success that nothing proves."""
    return SendError(ErrorKind.TRANSIENT, "not-confirmed", message, unknown=True, refusal=True)


def different_object(key: str, size: int, seen: str, why: str) -> SendError:
    """The error of an image of ``size`` bytes whose key another object of ``seen`` bytes has."""
    return SendError(
        ErrorKind.PERMANENT,
        "different-object",
        f"Another object is at {key} ({why}: {seen or '?'} bytes there, {size} here),"
        " and nothing is overwritten; look whether another gateway writes below the same "
        "site.name and s3.prefix, then `headgate retry`.",
        unknown=True,
        refusal=True,
    )
