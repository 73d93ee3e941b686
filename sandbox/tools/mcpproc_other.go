//go:build !linux

package tools

// kill ends the server.
func (p *mcpProcess) kill() {
	p.cmd.Process.Kill() //nolint:errcheck // it may be gone
}
