package policy

// setSchema is published as docs/format/policyset.schema.json, which a test compares.
// It says what an editor can check; ParseSet says the rest.
const setSchema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "Enclave policy set",
  "type": "object",
  "additionalProperties": false,
  "required": ["policies"],
  "properties": {
    "$schema": {"type": "string"},
    "policies": {"type": "array", "maxItems": 10000, "items": {"$ref": "#/$defs/policy"}},
    "requirements": {"type": "array", "maxItems": 1000, "items": {"$ref": "#/$defs/requirement"}},
    "tags": {"type": "array", "maxItems": 10000, "items": {
      "type": "object", "additionalProperties": false, "required": ["name", "trust_requirements"],
      "properties": {"name": {"$ref": "#/$defs/tag"}, "trust_requirements": {"$ref": "#/$defs/trust"}}}},
    "tests": {"type": "array", "maxItems": 10000, "items": {"$ref": "#/$defs/test"}}
  },
  "$defs": {
    "tag": {"type": "string", "maxLength": 64, "pattern": "^([a-z0-9]+[-.])*[a-z0-9]+$"},
    "tags": {"type": "array", "maxItems": 256, "uniqueItems": true, "items": {"$ref": "#/$defs/tag"}},
    "trust": {"type": "array", "maxItems": 64, "uniqueItems": true, "items": {"type": "string", "minLength": 1, "maxLength": 64}},
    "protocol": {"enum": ["any", "tcp", "udp", "icmp"]},
    "acl": {
      "type": "object", "additionalProperties": false, "required": ["protocol"],
      "properties": {
        "protocol": {"$ref": "#/$defs/protocol"},
        "ports": {"description": "22,80,8000-8100; null is every port", "type": ["string", "null"], "pattern": "^[0-9]+(-[0-9]+)?( *, *[0-9]+(-[0-9]+)?)*$"},
        "description": {"type": "string", "maxLength": 128}
      }
    },
    "window": {
      "type": "object", "additionalProperties": false, "required": ["tz", "days", "start", "end"],
      "properties": {
        "tz": {"description": "IANA zone name", "type": "string"},
        "days": {"type": "array", "items": {"enum": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]}},
        "start": {"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]$"},
        "end": {"description": "may be 24:00, and before start, which wraps past midnight", "type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]$"}
      }
    },
    "local": {
      "type": "object", "additionalProperties": false, "required": ["time", "tz"],
      "properties": {
        "time": {"description": "a skipped time is the first instant after the gap, a repeated one the first of the two", "type": "string", "pattern": "^[0-9]{4}-[0-1][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]$"},
        "tz": {"description": "IANA zone name", "type": "string"}
      }
    },
    "policy": {
      "type": "object", "additionalProperties": false, "required": ["name", "type", "enabled", "sender_tags", "acls"],
      "properties": {
        "id": {"type": "string"},
        "name": {"type": "string", "minLength": 1, "maxLength": 128},
        "type": {"enum": ["direct", "gateway"]},
        "enabled": {"type": "boolean"},
        "sender_tags": {"$ref": "#/$defs/tags"},
        "receiver_tags": {"$ref": "#/$defs/tags"},
        "acls": {"type": "array", "maxItems": 256, "items": {"$ref": "#/$defs/acl"}},
        "expires_at": {"type": ["string", "null"], "format": "date-time"},
        "expires_local": {"description": "in place of expires_at: the wall clock of a zone is what is kept", "oneOf": [{"type": "null"}, {"$ref": "#/$defs/local"}]},
        "expiry_action": {"enum": ["disable", "delete"]},
        "active_hours": {"oneOf": [{"type": "null"}, {"$ref": "#/$defs/window"}, {"type": "array", "maxItems": 32, "items": {"$ref": "#/$defs/window"}}]},
        "trust_requirements": {"$ref": "#/$defs/trust"},
        "receiver_trust": {"$ref": "#/$defs/trust"},
        "gateways": {"type": "array", "maxItems": 64, "items": {
          "type": "object", "additionalProperties": false, "required": ["system", "subnets"],
          "properties": {"system": {"type": "string"}, "subnets": {"type": "array", "maxItems": 64, "items": {"type": "string"}}}}},
        "subnet_filter": {"type": "array", "maxItems": 256, "items": {"type": "string"}},
        "priority": {"enum": ["balanced", "ordered", "nearest"]},
        "notes": {"type": "string", "maxLength": 4096}
      }
    },
    "requirement": {
      "type": "object", "additionalProperties": false, "required": ["id", "kind"],
      "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 64},
        "kind": {"enum": ["user-authentication", "public-ip"]},
        "description": {"type": "string", "maxLength": 128},
        "authority": {"type": "string"},
        "claims": {"type": "array", "maxItems": 32, "items": {
          "type": "object", "additionalProperties": false, "required": ["claim", "value"],
          "properties": {"claim": {"type": "string"}, "value": {"type": "string"}}}},
        "ranges": {"type": "array", "maxItems": 1024, "items": {
          "type": "object", "additionalProperties": false, "required": ["range"],
          "properties": {"range": {"type": "string"}, "blocked": {"type": "boolean"}}}},
        "countries": {"type": "array", "maxItems": 300, "items": {
          "type": "object", "additionalProperties": false, "required": ["country"],
          "properties": {"country": {"type": "string", "pattern": "^[A-Za-z]{2}$"}, "blocked": {"type": "boolean"}}}}
      }
    },
    "test": {
      "type": "object", "additionalProperties": false, "required": ["from", "to", "protocol", "allow"],
      "properties": {
        "name": {"type": "string", "maxLength": 128},
        "from": {"description": "a system's ID or name, or tag:NAME", "type": "string"},
        "to": {"description": "a system's ID or name, or tag:NAME", "type": "string"},
        "protocol": {"$ref": "#/$defs/protocol"},
        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
        "at": {"type": "string", "format": "date-time"},
        "allow": {"type": "boolean"}
      }
    }
  }
}
`
