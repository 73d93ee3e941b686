package tools

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"enclave/wire"
)

// Limits of a YAML document, beside its size. Aliases are copied where they stand, so
// a small text could become a large value.
const maxYAMLNodes = 500_000

var errYAMLSize = fmt.Errorf("more than %d values, aliases counted where they stand", maxYAMLNodes)

// readDocument reads JSON, or YAML where the text does not begin like a JSON object.
func readDocument(text []byte) (map[string]any, error) {
	if !strings.HasPrefix(strings.TrimLeft(string(text[:min(len(text), 64)]), " \t\r\n\ufeff"), "{") {
		var err error
		if text, err = yamlToJSON(text); err != nil {
			return nil, err
		}
	}
	if err := wire.CheckJSON(text); err != nil {
		return nil, err
	}
	v, err := decode(text)
	if err != nil {
		return nil, err
	}
	doc, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("want an object")
	}
	return doc, nil
}

// yamlToJSON reads the first document of a text. What JSON has no word for is refused:
// keys that are no strings, merge keys, tags of one's own, infinities.
func yamlToJSON(text []byte) ([]byte, error) {
	var n yaml.Node
	if err := yaml.Unmarshal(text, &n); err != nil {
		return nil, brief(err)
	}
	if n.Kind != yaml.DocumentNode || len(n.Content) != 1 {
		return nil, errors.New("the document is empty")
	}
	y := yamlReader{left: maxYAMLNodes}
	v, err := y.value(n.Content[0], 0)
	if err != nil {
		return nil, err
	}
	return encode(v)
}

type yamlReader struct{ left int }

func (y *yamlReader) value(n *yaml.Node, depth int) (any, error) {
	if y.left--; y.left < 0 {
		return nil, errYAMLSize
	}
	if depth > wire.MaxJSONDepth {
		return nil, fmt.Errorf("line %d: nested deeper than %d", n.Line, wire.MaxJSONDepth)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return y.value(n.Alias, depth+1)
	case yaml.SequenceNode:
		out := make([]any, 0, len(n.Content))
		for _, one := range n.Content {
			v, err := y.value(one, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	case yaml.MappingNode:
		return y.mapping(n, depth)
	}
	return scalar(n)
}

func (y *yamlReader) mapping(n *yaml.Node, depth int) (any, error) {
	out := make(map[string]any, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
			return nil, fmt.Errorf("line %d: a key has to be plain text", key.Line)
		}
		// Response codes are written as numbers in many documents: their text counts.
		if _, twice := out[key.Value]; twice {
			return nil, fmt.Errorf("line %d: key %.60q stands there twice", key.Line, key.Value)
		}
		v, err := y.value(n.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		out[key.Value] = v
	}
	return out, nil
}

func scalar(n *yaml.Node) (any, error) {
	var v any
	switch n.Tag {
	case "!!str", "!!timestamp":
		return n.Value, nil
	case "!!null", "!!bool", "!!int", "!!float":
		if err := n.Decode(&v); err != nil {
			return nil, brief(err)
		}
	default:
		return nil, fmt.Errorf("line %d: tag %.40s has no meaning here", n.Line, n.Tag)
	}
	text, err := encode(v)
	if err != nil {
		return nil, fmt.Errorf("line %d: %.40s is no number of JSON", n.Line, n.Value)
	}
	if _, isBool := v.(bool); isBool || v == nil {
		return v, nil
	}
	return json.Number(text), nil
}
