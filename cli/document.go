package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/tailscale/hujson"
	"go.yaml.in/yaml/v3"

	"enclave/control/policy"
	"enclave/wire"
	"enclave/wire/api"
)

// maxYAMLNodes is how many values one YAML document may hold. The text of an alias costs
// nothing and its meaning doubles at each use, so aliases are refused as well.
const maxYAMLNodes = 2_000_000

// asJSON reads a document that people write: JSON with comments and trailing commas, or
// YAML. Places in JSON stay what they are, for messages about it.
func asJSON(raw []byte, file string) ([]byte, error) {
	if isYAML(raw, file) {
		out, err := yamlToJSON(raw)
		if err != nil {
			return nil, usage("%s: %v", titled(file), err)
		}
		return out, nil
	}
	plain, err := hujson.Standardize(raw)
	if err != nil {
		return nil, usage("%s: %v", titled(file), err)
	}
	return plain, nil
}

// titled is what a message calls a file.
func titled(file string) string {
	if file == "-" {
		return "standard input"
	}
	return file
}

// isYAML goes by the name and, where that says nothing, by how the text begins: JSON does
// with a brace, and its comments with a slash.
func isYAML(raw []byte, file string) bool {
	switch strings.ToLower(filepath.Ext(file)) {
	case ".yaml", ".yml":
		return true
	case ".json", ".hujson", ".jsonc":
		return false
	}
	text := bytes.TrimSpace(raw)
	return len(text) > 0 && !bytes.ContainsAny(text[:1], "{[/")
}

// yamlToJSON reads one YAML document of plain values: no aliases, no tags of its own, no
// key twice. What YAML takes for a date stays the text that it is.
func yamlToJSON(raw []byte) ([]byte, error) {
	d := yaml.NewDecoder(bytes.NewReader(raw))
	var doc yaml.Node
	if err := d.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the document is empty")
		}
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("want one document")
	}
	y := yamlWriter{left: maxYAMLNodes}
	if err := y.write(&doc, 0); err != nil {
		return nil, err
	}
	return y.out.Bytes(), nil
}

type yamlWriter struct {
	out  bytes.Buffer
	left int
}

func (y *yamlWriter) write(n *yaml.Node, depth int) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("line %d: %s", n.Line, fmt.Sprintf(format, args...))
	}
	if y.left--; y.left < 0 {
		return bad("more than %d values", maxYAMLNodes)
	}
	if depth > wire.MaxJSONDepth {
		return bad("nested deeper than %d", wire.MaxJSONDepth)
	}
	if n.Anchor != "" {
		return bad("anchors are refused: write it out")
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return y.write(n.Content[0], depth)
	case yaml.SequenceNode:
		y.out.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				y.out.WriteByte(',')
			}
			if err := y.write(item, depth+1); err != nil {
				return err
			}
		}
		y.out.WriteByte(']')
		return nil
	case yaml.MappingNode:
		return y.mapping(n, depth)
	case yaml.ScalarNode:
		return y.scalar(n, bad)
	}
	return bad("aliases are refused: write it out")
}

func (y *yamlWriter) mapping(n *yaml.Node, depth int) error {
	seen := make(map[string]bool, len(n.Content)/2)
	y.out.WriteByte('{')
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge":
			return fmt.Errorf("line %d: want a plain key", key.Line)
		case seen[key.Value]:
			return fmt.Errorf("line %d: key %.40q is given twice", key.Line, key.Value)
		}
		seen[key.Value] = true
		if i > 0 {
			y.out.WriteByte(',')
		}
		if err := y.text(key.Value); err != nil {
			return err
		}
		y.out.WriteByte(':')
		if err := y.write(n.Content[i+1], depth+1); err != nil {
			return err
		}
	}
	y.out.WriteByte('}')
	return nil
}

func (y *yamlWriter) scalar(n *yaml.Node, bad func(string, ...any) error) error {
	switch tag := n.ShortTag(); tag {
	case "!!str", "!!timestamp":
		return y.text(n.Value)
	case "!!null":
		y.out.WriteString("null")
		return nil
	case "!!bool":
		var b bool
		if err := n.Decode(&b); err != nil {
			return bad("%.40q is neither true nor false", n.Value)
		}
		fmt.Fprint(&y.out, b)
		return nil
	case "!!int", "!!float":
		if !json.Valid([]byte(n.Value)) {
			return bad("%.40q is no plain number: put text in quotes", n.Value)
		}
		y.out.WriteString(n.Value)
		return nil
	default:
		return bad("tag %.40s is refused", tag)
	}
}

func (y *yamlWriter) text(s string) error {
	b, err := json.Marshal(s)
	y.out.Write(b)
	return err
}

// yamlOf writes a JSON document as YAML, its fields in their order.
func yamlOf(doc []byte) (string, error) {
	var n yaml.Node
	if err := yaml.Unmarshal(doc, &n); err != nil { // JSON is YAML
		return "", err
	}
	block(&n)
	var out strings.Builder
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(&n), e.Close()); err != nil {
		return "", err
	}
	return out.String(), nil
}

// block lays a document out in lines; lists of single values stay on theirs.
func block(n *yaml.Node) {
	flat := n.Kind == yaml.SequenceNode
	for _, c := range n.Content {
		flat = flat && c.Kind == yaml.ScalarNode
		block(c)
	}
	if n.Style = 0; flat {
		n.Style = yaml.FlowStyle
	}
}

// readSet reads a policy set.
func readSet(in io.Reader, file string) (wire.PolicySet, error) {
	raw, err := readAll(in, file, wire.MaxPolicySet)
	if err != nil {
		return wire.PolicySet{}, err
	}
	plain, err := asJSON(raw, file)
	if err != nil {
		return wire.PolicySet{}, err
	}
	set, bad := policy.ParseSet(plain)
	if len(bad) > 0 {
		return set, &failure{exit: exitUsage, Code: api.CodeInvalid, Message: titled(file) + " has mistakes", Problems: bad}
	}
	return set, nil
}

// readPolicy reads one policy and checks it as a whole.
func readPolicy(in io.Reader, file string, p *wire.Policy) error {
	raw, err := readAll(in, file, wire.MaxRequestBody)
	if err != nil {
		return err
	}
	plain, err := asJSON(raw, file)
	if err != nil {
		return err
	}
	var bad []wire.Problem
	*p, bad = policy.ParsePolicy(plain, "")
	return mistakes(bad).refuse(titled(file))
}
