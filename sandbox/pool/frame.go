package pool

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"enclave/sandbox"
)

// The frames between the parent and a worker: docs/format/sandbox-frame.md.
type kind byte

const (
	kindRun    kind = 'R' // to the worker: a spec
	kindAnswer kind = 'A' // to the worker: the answer to a call
	kindReady  kind = 'W' // from the worker: its walls stand
	kindCall   kind = 'C' // from the worker: a call of a tool
	kindLine   kind = 'L' // from the worker: a line of the console
	kindEnd    kind = 'E' // from the worker: the result
)

// frameVersion is the first word of a ready frame. 1: the first version.
const frameVersion = 1

// most is how large the body of a frame of each kind may be. JSON escapes can make a
// text six times as long; a payload's own limit counts the JSON as it is here.
func most(k kind) int {
	switch k {
	case kindRun:
		return 6*sandbox.MaxSource + 4<<20
	case kindAnswer, kindCall:
		return sandbox.MaxPayload + 64<<10
	case kindEnd:
		return sandbox.MaxPayload + 4<<20 // findings and signals too
	case kindLine:
		return 128 << 10
	case kindReady:
		return 4 << 10
	}
	return -1
}

var (
	errKind  = errors.New("frame: unknown kind")
	errLarge = errors.New("frame: too large")
)

// appendFrame appends the frame of v to b.
func appendFrame(b []byte, k kind, v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return b, fmt.Errorf("frame: %w", err)
	}
	if len(body) > most(k) {
		return b, errLarge
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)+1))
	return append(append(b, byte(k)), body...), nil
}

// writeFrame writes the frame of v in one call.
func writeFrame(w io.Writer, k kind, v any) error {
	b, err := appendFrame(nil, k, v)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// readFrame reads the next frame. The body is its reader's.
func readFrame(r io.Reader) (kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	k, n := kind(head[4]), int64(binary.BigEndian.Uint32(head[:4]))-1
	switch m := int64(most(k)); {
	case m < 0:
		return 0, nil, errKind
	case n < 0 || n > m:
		return 0, nil, errLarge
	}
	// The length is a claim: memory follows what has really come.
	var body bytes.Buffer
	body.Grow(int(min(n, 64<<10)))
	if _, err := io.CopyN(&body, r, n); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return k, body.Bytes(), nil
}

// parse reads the body of a frame: one JSON value without fields that v does not have.
func parse(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return errors.New("frame: the body is not what its kind holds")
	}
	if d.InputOffset() != int64(len(body)) {
		return errors.New("frame: something follows the body")
	}
	return nil
}

// ready is the body of a ready frame.
type ready struct {
	Version int      `json:"version"`
	Walls   []string `json:"walls"`
}
