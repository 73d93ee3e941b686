package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Unmarshal decodes one JSON document into v and is strict where encoding/json is
// not: duplicate keys, unknown fields, trailing data and nesting beyond
// MaxJSONDepth are refused. Two readers of one document must never differ about
// what it says, which duplicate keys would allow.
func Unmarshal(data []byte, v any) error { return unmarshal(data, v, bounds{}) }

// bounds are on the values of a document; zero is without. Its length alone says little
// of what it becomes: "null," is a Peer to an array of peers.
type bounds struct {
	elements int // of one array
	members  int // of one object
	all      int // elements together that are no texts
	texts    int // those that are
}

func unmarshal(data []byte, v any, b bounds) error {
	if err := checkJSON(data, b); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// CheckJSON refuses malformed text, duplicate keys, trailing data and deep nesting.
// The error is a Problem with the place.
func CheckJSON(data []byte) error { return checkJSON(data, bounds{}) }

func checkJSON(data []byte, b bounds) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	c := checker{Decoder: d, bounds: b}
	if err := c.value("", 0, false); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return Problem{Message: "the document ends too early"}
		}
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Problem{Message: "data after the end of the document"}
	}
	return nil
}

type checker struct {
	*json.Decoder
	bounds bounds
	count  int // elements so far that are no texts
	texts  int // those that are
}

// element counts one of an array.
func (d *checker) element(path string, t json.Token) error {
	count, most := &d.count, d.bounds.all
	if _, ok := t.(string); ok {
		count, most = &d.texts, d.bounds.texts
	} else if t == nil && most > 0 {
		return Problem{Path: path, Message: "no value"}
	}
	if *count++; most > 0 && *count > most {
		return Problem{Path: path, Message: fmt.Sprintf("more than %d values in all", most)}
	}
	return nil
}

func (d *checker) value(path string, depth int, element bool) error {
	t, err := d.Token()
	if err == nil && element {
		err = d.element(path, t)
	}
	if err != nil {
		return err
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	if depth++; depth > MaxJSONDepth {
		return Problem{Path: path, Message: fmt.Sprintf("nested deeper than %d", MaxJSONDepth)}
	}
	var seen map[string]bool
	most := d.bounds.elements
	if delim == '{' {
		seen, most = make(map[string]bool), d.bounds.members
	}
	for i := 0; d.More(); i++ {
		at := path + "[" + strconv.Itoa(i) + "]"
		if most > 0 && i >= most {
			return Problem{Path: path, Message: fmt.Sprintf("more than %d values", most)}
		}
		if seen != nil {
			k, err := d.Token()
			if err != nil {
				return err
			}
			key, _ := k.(string)
			at = joinPath(path, key)
			// encoding/json matches keys without regard to case, so "A" and "a" are one.
			folded := strings.ToLower(strings.ToUpper(key))
			if seen[folded] {
				return Problem{Path: at, Message: "given twice"}
			}
			seen[folded] = true
		}
		if err := d.value(at, depth, seen == nil); err != nil {
			return err
		}
	}
	_, err = d.Token() // the closing bracket
	return err
}

func joinPath(path, key string) string {
	if len(key) > 40 {
		key = key[:40]
	}
	if path == "" {
		return key
	}
	return path + "." + key
}
