package engine

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dop251/goja"
)

// decoder builds values of the engine from JSON text (RFC 8259), with bounds on depth
// and values. Members named like the machinery of objects become ordinary ones: they
// are defined, not assigned.
type decoder struct {
	m     *meter
	rt    *goja.Runtime
	s     string
	i     int
	depth int
	left  bounds
	items []any // the elements of all arrays that are open
}

// syntaxError is a text that is no JSON, or none that is taken.
type syntaxError string

func (e syntaxError) Error() string { return string(e) }

func decode(m *meter, rt *goja.Runtime, s string, b bounds) (goja.Value, error) {
	if int64(len(s)) > b.bytes {
		return nil, syntaxError(fmt.Sprintf("the text is larger than %d bytes", b.bytes))
	}
	m.charge(int64(len(s)) / 64)
	d := decoder{m: m, rt: rt, s: s, left: b}
	v, err := d.value()
	if err != nil {
		return nil, err
	}
	if d.space(); d.i < len(d.s) {
		return nil, d.unexpected()
	}
	return v, nil
}

func (d *decoder) unexpected() error {
	if d.i >= len(d.s) {
		return syntaxError("unexpected end of JSON input")
	}
	r, _ := utf8.DecodeRuneInString(d.s[d.i:])
	return syntaxError(fmt.Sprintf("unexpected %q in JSON at position %d", r, d.i))
}

func (d *decoder) space() {
	for d.i < len(d.s) {
		switch d.s[d.i] {
		case ' ', '\t', '\n', '\r':
			d.i++
		default:
			return
		}
	}
}

func (d *decoder) value() (goja.Value, error) {
	if d.left.nodes--; d.left.nodes < 0 {
		return nil, syntaxError("the JSON has too many values")
	}
	d.space()
	if d.i >= len(d.s) {
		return nil, d.unexpected()
	}
	switch c := d.s[d.i]; c {
	case '{', '[':
		if d.depth++; d.depth > d.left.depth {
			return nil, syntaxError(fmt.Sprintf("the JSON is nested deeper than %d", d.left.depth))
		}
		d.i++
		v, err := d.open(c)
		d.depth--
		return v, err
	case '"':
		s, err := d.str()
		if err != nil {
			return nil, err
		}
		return s, nil
	case 't':
		return trueValue, d.word("true")
	case 'f':
		return falseValue, d.word("false")
	case 'n':
		return goja.Null(), d.word("null")
	default:
		return d.number()
	}
}

func (d *decoder) open(c byte) (goja.Value, error) {
	if c == '[' {
		return d.array()
	}
	o := d.rt.NewObject()
	if d.space(); d.i < len(d.s) && d.s[d.i] == '}' {
		d.i++
		return o, nil
	}
	for {
		if d.space(); d.i >= len(d.s) || d.s[d.i] != '"' {
			return nil, d.unexpected()
		}
		k, err := d.name()
		if err != nil {
			return nil, err
		}
		if d.space(); d.i >= len(d.s) || d.s[d.i] != ':' {
			return nil, d.unexpected()
		}
		d.i++
		v, err := d.value()
		if err != nil {
			return nil, err
		}
		if special(k) {
			err = o.DefineDataProperty(k, v, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_TRUE)
		} else {
			err = o.Set(k, v)
		}
		if err != nil {
			return nil, err
		}
		if done, err := d.next('}'); done || err != nil {
			return o, err
		}
	}
}

// special names are those that an assignment would look up in the prototype and be
// refused for, or redirected.
func special(k string) bool {
	switch k {
	case "__proto__", "constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString", "valueOf",
		"__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__":
		return true
	}
	return false
}

func (d *decoder) array() (goja.Value, error) {
	if d.space(); d.i < len(d.s) && d.s[d.i] == ']' {
		d.i++
		return d.rt.NewArray(), nil
	}
	from := len(d.items)
	for {
		v, err := d.value()
		if err != nil {
			return nil, err
		}
		d.items = append(d.items, v)
		done, err := d.next(']')
		if err != nil {
			return nil, err
		}
		if done {
			a := d.rt.NewArray(d.items[from:]...)
			d.items = d.items[:from]
			return a, nil
		}
	}
}

// next passes a comma, or the end of what is open.
func (d *decoder) next(end byte) (done bool, err error) {
	d.space()
	if d.i < len(d.s) {
		switch d.s[d.i] {
		case ',':
			d.i++
			return false, nil
		case end:
			d.i++
			return true, nil
		}
	}
	return false, d.unexpected()
}

func (d *decoder) word(w string) error {
	if !strings.HasPrefix(d.s[d.i:], w) {
		return d.unexpected()
	}
	d.i += len(w)
	return nil
}

func (d *decoder) number() (goja.Value, error) {
	from := d.i
	if d.i < len(d.s) && d.s[d.i] == '-' {
		d.i++
	}
	switch {
	case d.i < len(d.s) && d.s[d.i] == '0':
		d.i++
	case !d.digits():
		return nil, d.unexpected()
	}
	whole := true
	if d.i < len(d.s) && d.s[d.i] == '.' {
		d.i++
		if whole = false; !d.digits() {
			return nil, d.unexpected()
		}
	}
	if d.i < len(d.s) && d.s[d.i]|0x20 == 'e' {
		d.i++
		if d.i < len(d.s) && (d.s[d.i] == '+' || d.s[d.i] == '-') {
			d.i++
		}
		if whole = false; !d.digits() {
			return nil, d.unexpected()
		}
	}
	text := d.s[from:d.i]
	if whole && len(text) < 16 && text != "-0" {
		n, _ := strconv.ParseInt(text, 10, 64)
		return d.rt.ToValue(n), nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return nil, d.unexpected()
	}
	if math.IsNaN(f) {
		return nil, d.unexpected()
	}
	return d.rt.ToValue(f), nil
}

func (d *decoder) digits() bool {
	from := d.i
	for d.i < len(d.s) && d.s[d.i] >= '0' && d.s[d.i] <= '9' {
		d.i++
	}
	return d.i > from
}

// name reads a member's name as a Go string: half a surrogate pair becomes U+FFFD.
func (d *decoder) name() (string, error) {
	if s, ok := d.plain(); ok {
		return s, nil
	}
	u, err := d.units()
	return string(utf16.Decode(u)), err
}

// str reads a string as a value of the engine, halves of surrogate pairs included.
func (d *decoder) str() (goja.Value, error) {
	if s, ok := d.plain(); ok {
		return d.rt.ToValue(s), nil
	}
	u, err := d.units()
	if err != nil {
		return nil, err
	}
	return goja.StringFromUTF16(u), nil
}

// plain reads a string that has no escapes, which most have not. If there are some it
// moves nowhere.
func (d *decoder) plain() (string, bool) {
	for i := d.i + 1; i < len(d.s); i++ {
		switch c := d.s[i]; {
		case c == '"':
			s := d.s[d.i+1 : i]
			d.i = i + 1
			return s, true
		case c == '\\' || c < 0x20:
			return "", false
		}
	}
	return "", false
}

func (d *decoder) units() ([]uint16, error) {
	var u []uint16
	for d.i++; d.i < len(d.s); {
		c := d.s[d.i]
		switch {
		case c == '"':
			d.i++
			return u, nil
		case c < 0x20:
			return nil, d.unexpected()
		case c != '\\':
			r, n := utf8.DecodeRuneInString(d.s[d.i:])
			u = utf16.AppendRune(u, r)
			d.i += n
		default:
			x, err := d.escape()
			if err != nil {
				return nil, err
			}
			u = append(u, x)
		}
	}
	return nil, d.unexpected()
}

func (d *decoder) escape() (uint16, error) {
	d.i++
	if d.i >= len(d.s) {
		return 0, d.unexpected()
	}
	c := d.s[d.i]
	if k := strings.IndexByte(`"\/bfnrt`, c); k >= 0 {
		d.i++
		return uint16("\"\\/\b\f\n\r\t"[k]), nil
	}
	if c != 'u' || d.i+5 > len(d.s) {
		return 0, d.unexpected()
	}
	x, err := strconv.ParseUint(d.s[d.i+1:d.i+5], 16, 16)
	if err != nil {
		return 0, d.unexpected()
	}
	d.i += 5
	return uint16(x), nil
}
