"""A Ray cluster: joined or started for a run, and given whole commands as jobs."""

import os

from pipeline.errors import UserError, must


def token_refused(address: str, answer: str) -> UserError:
    """What to tell of a cluster that let nobody in, from what Ray says of it."""
    if "RAY_AUTH_TOKEN_PATH is set but" in answer:  # Ray's words, and below
        return must(
            "RAY_AUTH_TOKEN_PATH",
            "a file that holds the token of the cluster",
            os.environ.get("RAY_AUTH_TOKEN_PATH", ""),
            remedy="It is not there, cannot be read or is empty. Nodes that got no token have ~/.ray/auth_token.",
        )
    without = "(not 'token')" in answer or "no authentication token was found" in answer
    wrong = "wants a token" if without else "does not accept this token"
    return UserError(
        f"The cluster at {address} {wrong}. Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
        "RAY_AUTH_TOKEN_PATH to the token that its nodes were started with, ~/.ray/auth_token if they got none."
    )
