package passage

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// The opcodes of RFC 6455 section 5.2. Text has no meaning on a stream.
const (
	opContinue = 0x0
	opBinary   = 0x2
	opClose    = 0x8
	opPing     = 0x9
	opPong     = 0xa

	final   = 0x80
	masked  = 0x80
	control = 125 // bytes of a control frame at most

	// chunk is the most that one frame carries outward: one TLS record.
	chunk = 16 << 10

	goodbye = time.Second // for the close frame
)

var errFrame = errors.New("malformed frame of a WebSocket")

// stream is a byte stream in binary messages. Where one ends means nothing. One reader
// and any number of writers, as for any net.Conn; deadlines are those of the connection.
type stream struct {
	net.Conn
	r      *bufio.Reader
	client bool // we mask, and the other must not (section 5.1)

	// What follows belongs to the reader.
	left  uint64 // bytes of the frame at hand
	mask  [4]byte
	turn  int  // position in mask
	ended bool // the other has said goodbye

	mu    sync.Mutex // guards out and the order of frames
	out   []byte
	close sync.Once
	err   error // of Close
}

func newStream(c net.Conn, client bool) *stream {
	return &stream{Conn: c, r: bufio.NewReaderSize(c, chunk+1<<10), client: client}
}

// Read returns the bytes of binary messages. It answers pings on the way, and ends
// cleanly where the other says goodbye.
func (s *stream) Read(b []byte) (int, error) {
	for s.left == 0 {
		if s.ended {
			return 0, io.EOF
		}
		if len(b) == 0 {
			return 0, nil
		}
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n, err := s.r.Read(b[:min(uint64(len(b)), s.left)])
	s.unmask(b[:n])
	if s.left -= uint64(n); err == io.EOF {
		err = io.ErrUnexpectedEOF // inside a frame
	}
	return n, err
}

func (s *stream) unmask(b []byte) {
	if s.client {
		return
	}
	for i := range b {
		b[i] ^= s.mask[(s.turn+i)&3]
	}
	s.turn = (s.turn + len(b)) & 3
}

// next reads the head of a frame, and a control frame whole.
func (s *stream) next() error {
	var h [8]byte
	if _, err := io.ReadFull(s.r, h[:2]); err != nil {
		return err
	}
	op, size := h[0]&0xf, uint64(h[1]&^masked)
	if h[0]&0x70 != 0 || (h[1]&masked != 0) == s.client || op >= opClose && (size > control || h[0]&final == 0) {
		return errFrame // an extension that nobody agreed on, a mask where none belongs, a control frame in parts
	}
	switch size {
	case 126:
		if _, err := io.ReadFull(s.r, h[:2]); err != nil {
			return unexpected(err)
		}
		size = uint64(binary.BigEndian.Uint16(h[:]))
	case 127:
		if _, err := io.ReadFull(s.r, h[:8]); err != nil {
			return unexpected(err)
		}
		if size = binary.BigEndian.Uint64(h[:]); size>>63 != 0 {
			return errFrame
		}
	}
	if !s.client {
		if _, err := io.ReadFull(s.r, s.mask[:]); err != nil {
			return unexpected(err)
		}
		s.turn = 0
	}
	switch op {
	case opContinue, opBinary:
		s.left = size
		return nil
	case opClose, opPing, opPong:
	default:
		return errFrame
	}
	var body [control]byte
	if _, err := io.ReadFull(s.r, body[:size]); err != nil {
		return unexpected(err)
	}
	s.unmask(body[:size])
	switch op {
	case opClose:
		s.ended = true
	case opPing:
		return s.send(opPong, body[:size])
	}
	return nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Write sends b in binary messages, each in one piece.
func (s *stream) Write(b []byte) (n int, err error) {
	for n < len(b) {
		part := b[n:min(n+chunk, len(b))]
		if err := s.send(opBinary, part); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

func (s *stream) send(op byte, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var mask byte
	if s.client {
		mask = masked
	}
	s.out = append(s.out[:0], op|final)
	switch n := len(b); {
	case n < 126:
		s.out = append(s.out, mask|byte(n))
	default: // never more than chunk
		s.out = binary.BigEndian.AppendUint16(append(s.out, mask|126), uint16(n))
	}
	if !s.client {
		s.out = append(s.out, b...)
	} else {
		var key [4]byte
		rand.Read(key[:])
		s.out = append(s.out, key[:]...)
		for i, c := range b {
			s.out = append(s.out, c^key[i&3])
		}
	}
	_, err := s.Conn.Write(s.out)
	return err
}

// Close says goodbye and closes the connection.
func (s *stream) Close() error {
	s.close.Do(func() {
		_ = s.SetWriteDeadline(time.Now().Add(goodbye))
		if s.mu.TryLock() { // else somebody writes, and the other will see an end in any case
			s.mu.Unlock()
			_ = s.send(opClose, []byte{0x03, 0xe8}) // 1000: a normal end
		}
		s.err = s.Conn.Close()
	})
	return s.err
}
