package store

import (
	"bytes"
	"context"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"enclave/wire"
)

// instant is how a time is written: Unix nanoseconds, or NULL for the zero time.
func instant(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixNano()
}

// instantCol reads what instant writes.
type instantCol struct{ t *time.Time }

func (c instantCol) Scan(v any) error {
	switch n := v.(type) {
	case nil:
		*c.t = time.Time{}
	case int64:
		*c.t = time.Unix(0, n).UTC()
	default:
		return fmt.Errorf("instant of type %T", v)
	}
	return nil
}

// localText is how a time on a wall clock is written.
func localText(l *wire.LocalTime) (string, error) {
	if l == nil {
		return "", nil
	}
	return toJSON(l)
}

// localCol reads what localText writes.
type localCol struct{ l **wire.LocalTime }

func (c localCol) Scan(v any) error {
	*c.l = nil
	if s, ok := v.(string); !ok || s == "" {
		return nil
	}
	*c.l = new(wire.LocalTime)
	return jsonCol{*c.l}.Scan(v)
}

// keyCol reads 32 bytes.
type keyCol struct{ k *[32]byte }

func (c keyCol) Scan(v any) error {
	b, ok := v.([]byte)
	if !ok || len(b) != 32 {
		return fmt.Errorf("key of type %T, %d bytes", v, len(b))
	}
	copy(c.k[:], b)
	return nil
}

// addrCol reads the text of an address.
type addrCol struct{ a *netip.Addr }

func (c addrCol) Scan(v any) (err error) {
	s, _ := v.(string)
	*c.a, err = netip.ParseAddr(s)
	return err
}

// prefixCol reads the text of a prefix.
type prefixCol struct{ p *netip.Prefix }

func (c prefixCol) Scan(v any) (err error) {
	s, _ := v.(string)
	*c.p, err = netip.ParsePrefix(s)
	return err
}

// jsonCol reads a JSON text into v.
type jsonCol struct{ v any }

func (c jsonCol) Scan(v any) error {
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf("document of type %T", v)
	}
	return json.Unmarshal([]byte(s), c.v)
}

// chainCol reads a certificate chain: DER, one after the other. DER tells its own
// length, so nothing stands between them.
type chainCol struct{ chain *[][]byte }

func (c chainCol) Scan(v any) error {
	rest, _ := v.([]byte)
	*c.chain = nil
	for rest = bytes.Clone(rest); len(rest) > 0; {
		var cert asn1.RawValue
		next, err := asn1.Unmarshal(rest, &cert)
		if err != nil {
			return fmt.Errorf("certificate chain: %w", err)
		}
		*c.chain, rest = append(*c.chain, cert.FullBytes), next
	}
	return nil
}

func chain(certs [][]byte) []byte {
	if b := bytes.Join(certs, nil); b != nil {
		return b
	}
	return []byte{}
}

func toJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// rows runs a query and calls scan for each row.
func rows(ctx context.Context, r reader, query string, args []any, scan func(scan func(...any) error) error) error {
	rs, err := r.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rs.Close()
	for rs.Next() {
		if err := scan(rs.Scan); err != nil {
			return err
		}
	}
	return rs.Err()
}
