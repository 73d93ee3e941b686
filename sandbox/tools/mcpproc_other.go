//go:build !linux

package tools

import "os/exec"

func contain(*exec.Cmd) {}

// kill ends the server.
func (p *mcpProcess) kill() {
	p.cmd.Process.Kill() //nolint:errcheck // it may be gone
}
