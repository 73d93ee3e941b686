package tools

import "syscall"

// kill ends the server and what it started, unless that has left its group.
func (p *mcpProcess) kill() {
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) //nolint:errcheck // it may be gone
}
