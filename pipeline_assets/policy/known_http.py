"""The part of the table that is about HTTP: http.client, requests with urllib3, httpx."""

from pipeline_assets.errors import (
    BadData,
    ConfigurationError,
    NetworkError,
    ProgrammingError,
)
from pipeline_assets.policy.http_failures import connection, exhausted, response_status
from pipeline_assets.policy.verdict import Entry, named_in, or_else

_HTTP_CLIENT = named_in(
    "http.client",
    {
        "BadStatusLine": NetworkError,
        "CannotSendHeader": ProgrammingError,
        "CannotSendRequest": ProgrammingError,
        "HTTPException": ProgrammingError,
        "ImproperConnectionState": ProgrammingError,
        "IncompleteRead": NetworkError,
        "InvalidURL": ConfigurationError,
        "LineTooLong": BadData,
        "NotConnected": ProgrammingError,
        "RemoteDisconnected": NetworkError,
        "ResponseNotReady": ProgrammingError,
        "UnimplementedFileMode": ProgrammingError,
        "UnknownProtocol": ConfigurationError,
        "UnknownTransferEncoding": ConfigurationError,
    },
)

_REQUESTS = named_in(
    "requests.exceptions",
    {
        "ChunkedEncodingError": NetworkError,
        "ConnectTimeout": NetworkError,
        "ConnectionError": connection,
        "ContentDecodingError": BadData,
        "FileModeWarning": ProgrammingError,
        "HTTPError": response_status,
        "InvalidHeader": ProgrammingError,
        "InvalidJSONError": BadData,
        "InvalidProxyURL": ConfigurationError,
        "InvalidSchema": ConfigurationError,
        "InvalidURL": ConfigurationError,
        "JSONDecodeError": BadData,
        "MissingSchema": ConfigurationError,
        "ProxyError": NetworkError,
        "ReadTimeout": NetworkError,
        "RequestException": or_else(response_status, ProgrammingError),
        "RequestsDependencyWarning": ProgrammingError,
        "RequestsWarning": ProgrammingError,
        "RetryError": exhausted,
        "SSLError": connection,
        "StreamConsumedError": ProgrammingError,
        "Timeout": NetworkError,
        "TooManyRedirects": ConfigurationError,
        "URLRequired": ConfigurationError,
        "UnrewindableBodyError": ProgrammingError,
    },
) | named_in(
    "urllib3.exceptions",  # which requests wraps, but for what is used directly
    {
        "DecodeError": BadData,
        "HTTPError": ProgrammingError,
        "LocationValueError": ConfigurationError,
        "MaxRetryError": exhausted,
        "ProtocolError": NetworkError,
        "ProxyError": NetworkError,
        "SSLError": connection,
        "TimeoutError": NetworkError,
    },
)

_HTTPX = named_in(
    "httpx",
    {
        "CloseError": NetworkError,
        "ConnectError": connection,
        "ConnectTimeout": NetworkError,
        "CookieConflict": ProgrammingError,
        "DecodingError": BadData,
        "HTTPError": ProgrammingError,
        "HTTPStatusError": response_status,
        "InvalidURL": ConfigurationError,
        "LocalProtocolError": ProgrammingError,
        "NetworkError": NetworkError,
        "PoolTimeout": NetworkError,
        "ProtocolError": NetworkError,
        "ProxyError": NetworkError,
        "ReadError": NetworkError,
        "ReadTimeout": NetworkError,
        "RemoteProtocolError": NetworkError,
        "RequestError": ProgrammingError,
        "RequestNotRead": ProgrammingError,
        "ResponseNotRead": ProgrammingError,
        "StreamClosed": ProgrammingError,
        "StreamConsumed": ProgrammingError,
        "StreamError": ProgrammingError,
        "TimeoutException": NetworkError,
        "TooManyRedirects": ConfigurationError,
        "TransportError": NetworkError,
        "UnsupportedProtocol": ConfigurationError,
        "WriteError": NetworkError,
        "WriteTimeout": NetworkError,
    },
)

HTTP: dict[str, Entry] = {**_HTTP_CLIENT, **_REQUESTS, **_HTTPX}
