package tools

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"enclave/sandbox/jail"
)

// mcpProcess is a server that speaks on its standard input and output, a message a
// line. Its environment is what was declared and PATH, its walls those of jail.Helper.
type mcpProcess struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out io.ReadCloser
	err lastWords
	log *slog.Logger

	writing sync.Mutex // held while one message is written

	mu    sync.Mutex // guards what follows
	next  int
	wait  map[string]chan rpc
	ended chan struct{} // closed when the reader has ended; no answer comes after it
	close sync.Once
	gone  chan struct{} // closed when the process was waited for
}

func startMCP(command []string, env map[string]string, dir, path string, walls jail.Helper, log *slog.Logger) (*mcpProcess, error) {
	cmd := exec.Command(command[0], command[1:]...)
	if strings.Contains(command[0], "/") {
		at, err := filepath.Abs(under(dir, command[0]))
		if err != nil {
			return nil, err
		}
		cmd.Path, cmd.Err = at, nil
	}
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + path}
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.WaitDelay = mcpLeave // what it started may hold its stderr
	p := &mcpProcess{cmd: cmd, in: in, out: out, log: log, wait: make(map[string]chan rpc), ended: make(chan struct{}), gone: make(chan struct{})}
	cmd.Stderr = &p.err
	begun := make(chan error)
	go jail.OnThread(func() { p.live(walls, begun) })
	if err := <-begun; err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	go p.read(out)
	return p, nil
}

// live starts the process and waits for it, on a thread of its own that ends with it:
// the walls are the thread's.
func (p *mcpProcess) live(walls jail.Helper, begun chan<- error) {
	err := walls.Start(p.cmd)
	begun <- err
	if err != nil {
		p.in.Close()
		p.out.Close()
		return
	}
	<-p.ended
	p.kill()
	p.cmd.Wait() //nolint:errcheck // how it ended does not matter any more
	close(p.gone)
}

func (p *mcpProcess) version(string) {}

// said is the end of what the process wrote to its standard error, in one line.
func (p *mcpProcess) said() string { return p.err.String() }

// lastWords keeps the end of what is written to it.
type lastWords struct {
	mu   sync.Mutex // guards what follows
	text []byte
	cut  bool // there was more before
}

// maxLastWords bounds what is kept of a program's complaints.
const maxLastWords = 1000

func (l *lastWords) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = l.cut || len(l.text)+len(b) > maxLastWords
	l.text = append(l.text, b[max(0, len(b)-maxLastWords):]...)
	l.text = l.text[max(0, len(l.text)-maxLastWords):]
	return len(b), nil
}

func (l *lastWords) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := string(l.text)
	if l.cut { // the first word may be the end of a secret, which nothing would recognise
		kept = kept[strings.IndexAny(kept+" ", " \t\r\n"):]
	}
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(kept, ""))
	return strings.Join(strings.Fields(text), " ")
}

// read hands answers to who waits for them, until the process closes its output.
func (p *mcpProcess) read(out io.Reader) {
	defer close(p.ended)
	r := bufio.NewReaderSize(out, 64<<10)
	for {
		line, err := readLine(r, maxMCPMessage)
		if err != nil {
			p.log.Debug("MCP server ended", "error", err)
			return
		}
		var m rpc
		if len(line) == 0 || json.Unmarshal(line, &m) != nil {
			continue
		}
		switch {
		case m.Method != "" && len(m.ID) > 0: // a request of the server's
			go p.reply(m)
		case m.Method != "":
		default:
			p.mu.Lock()
			ch := p.wait[string(m.ID)]
			delete(p.wait, string(m.ID))
			p.mu.Unlock()
			if ch != nil {
				ch <- m // buffered
			}
		}
	}
}

// reply answers what a server may ask: whether we are there. Sampling, roots and
// elicitation are not offered.
func (p *mcpProcess) reply(m rpc) {
	out := rpc{JSONRPC: "2.0", ID: m.ID}
	if m.Method == "ping" {
		out.Result = json.RawMessage("{}")
	} else {
		out.Error = &rpcError{-32601, "method not found"}
	}
	p.send(out) //nolint:errcheck // the reader sees the end
}

func (p *mcpProcess) send(m rpc) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	if _, err := p.in.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("%w: %w", errMCPGone, err)
	}
	return nil
}

func (p *mcpProcess) notify(_ context.Context, method string, params any) error {
	b, err := encode(params)
	if err != nil {
		return err
	}
	return p.send(rpc{JSONRPC: "2.0", Method: method, Params: b})
}

func (p *mcpProcess) request(ctx context.Context, method string, params any) (json.RawMessage, error) {
	b, err := encode(params)
	if err != nil {
		return nil, err
	}
	ch := make(chan rpc, 1)
	p.mu.Lock()
	p.next++
	id := strconv.Itoa(p.next)
	p.wait[id] = ch
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.wait, id)
		p.mu.Unlock()
	}()
	// A server that does not read would hold the write, and with it the caller.
	sent := make(chan error, 1)
	go func() { sent <- p.send(rpc{JSONRPC: "2.0", ID: json.RawMessage(id), Method: method, Params: b}) }()
	for {
		select {
		case err := <-sent:
			if err != nil {
				return nil, err
			}
			sent = nil
		case m := <-ch:
			if m.Error != nil {
				return nil, m.Error
			}
			return m.Result, nil
		case <-p.ended:
			return nil, errMCPGone
		case <-ctx.Done():
			go p.notify(context.Background(), "notifications/cancelled", map[string]any{"requestId": p.number(id)}) //nolint:errcheck // a courtesy
			return nil, ctx.Err()
		}
	}
}

func (p *mcpProcess) number(id string) json.Number { return json.Number(id) }

// mcpLeave is how long a server has to go by itself once its input is closed.
const mcpLeave = 2 * time.Second

// Close ends the process and waits for it.
func (p *mcpProcess) Close() error {
	p.close.Do(func() {
		p.in.Close()
		timer := time.NewTimer(mcpLeave)
		defer timer.Stop()
		select {
		case <-p.gone:
		case <-timer.C:
			p.kill()
			p.out.Close() // what it started may hold the other end, out of reach of the signal
		}
	})
	<-p.gone
	return nil
}

// readLine reads a line of at most max bytes, without its end.
func readLine(r *bufio.Reader, max int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > max {
			return nil, fmt.Errorf("a message has more than %d bytes", max)
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return []byte(strings.TrimRight(string(line), "\r\n")), nil
		case errors.Is(err, bufio.ErrBufferFull):
		default:
			return nil, err
		}
	}
}
