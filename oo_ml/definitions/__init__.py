"""Definitions of policies: the document that is published, its checks, and the policy that it is compiled to."""

from oo_ml.definitions.compiler import compile_policy
from oo_ml.definitions.document import Definition
from oo_ml.definitions.parsing import json_schema, parse

__all__ = ["Definition", "compile_policy", "json_schema", "parse"]
