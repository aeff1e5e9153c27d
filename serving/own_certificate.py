"""How a client on this machine knows the endpoint over TLS: by the very certificate, not its name.

The certificate is for the name that the world calls; here the endpoint is 127.0.0.1.
"""

import re
import ssl
from pathlib import Path

from core.errors import ServingError
from core.settings import Settings

# The first one of a file is the server's own; others only lead to it.
_CERTIFICATE = re.compile(
    "-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL
)


def own_trust() -> ssl.SSLContext | None:
    """Trust in the certificate of `ASSAY_TLS_CERTIFICATE` alone; None where it names none.

    `ServingError` where that file holds none.
    """
    certificate = Settings().tls_certificate
    if not certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    try:
        text = Path(certificate).read_text()
        own = "\n".join(_CERTIFICATE.findall(text)[:1])
        context.load_verify_locations(cadata=own)
    # SSLError is an OSError.
    except (OSError, ValueError) as error:
        raise ServingError(
            f"ASSAY_TLS_CERTIFICATE {certificate} holds no certificate "
            f"({type(error).__name__}). Give a PEM file."
        ) from error
    # Or it would only be believed together with the one that signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
