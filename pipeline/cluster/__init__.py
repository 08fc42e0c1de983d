"""A Ray cluster: joined or started for a run, and given whole commands as jobs."""

from pipeline.errors import UserError


def token_refused(address: str, answer: str) -> UserError:
    """What to tell of a cluster that let nobody in, from what Ray says of it."""
    without = "(not 'token')" in answer or "no authentication token was found" in answer  # Ray's words
    wrong = "wants a token" if without else "does not accept this token"
    return UserError(
        f"The cluster at {address} {wrong}. Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
        "RAY_AUTH_TOKEN_PATH to the token that its nodes were started with, ~/.ray/auth_token if they got none."
    )
