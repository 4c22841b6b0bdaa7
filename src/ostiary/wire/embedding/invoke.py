"""Where Bedrock takes the native request of a model. It must not know any model.

Source: botocore's service model `bedrock-runtime`, operation InvokeModel.
"""

from __future__ import annotations

from urllib.parse import quote


def invoke_path(model: str) -> str:
    """The path below the endpoint; ids with colons and slashes (of versions and profiles) are one segment."""
    return f"/model/{quote(model, safe='')}/invoke"
