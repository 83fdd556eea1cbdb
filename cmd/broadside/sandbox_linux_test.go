package main

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// sandboxed runs a shell script in a mount namespace of its own, where $broadside is the command without the rights of
// root, and returns what it printed. It skips the test where that is not allowed.
func sandboxed(t *testing.T, script string) string {
	t.Helper()
	sandbox := func(command ...string) *exec.Cmd {
		c := exec.Command(command[0], command[1:]...)
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		if uid := os.Getuid(); uid != 0 {
			c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
			c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
		return c
	}
	const begin = "set -e; mount --make-rprivate /; mount -t tmpfs -o size=256m tmpfs /mnt; "
	const without = "setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "
	if out, err := sandbox("sh", "-c", begin+without+"true").CombinedOutput(); err != nil {
		t.Skipf("no mount namespaces here: %v %s", err, out)
	}
	c := sandbox("sh", "-c", begin+script)
	c.Env = append(os.Environ(), commandVariable+"=1", "program="+os.Args[0], "without="+without, "broadside="+without+os.Args[0])
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// wantAll checks that a text has all of several parts.
func wantAll(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
}

// A file system that has room for two checkpoints, not for three: the run ends with an error that names the file, and
// what was there stays; once there is room it goes on to the same end.
func TestFullFileSystem(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "whole")
	out := sandboxed(t, `
		mkdir disk; mount -t tmpfs -o size=8000k tmpfs disk; head -c 6500k /dev/zero > disk/other
		$broadside train tiny.yaml --run disk/r || echo status $?
		ls disk/r/checkpoints
		rm disk/other
		$broadside train tiny.yaml --run disk/r --resume
		cp -r disk/r full`)
	wantAll(t, out, "step-000000012.safetensors", "no space left on device", "status 1\nstep-000000004.safetensors\nstep-000000008.safetensors\n", "updates=8")
	sameEnd(t, "whole", "full")
}

// A run directory on a read-only file system is refused, a new one and one to go on with, and nothing of it changes.
func TestReadOnlyFileSystem(t *testing.T) {
	tinyFolder(t)
	interrupted(t, "half")
	before := contents(t)
	out := sandboxed(t, `
		mount --bind . . ; mount -o remount,bind,ro .; cd "$PWD"
		$broadside train tiny.yaml --run new || echo new $?
		$broadside train tiny.yaml --run half --resume || echo resumed $?`)
	wantAll(t, out, "new 1\n", "new: read-only file system", "resumed 1\n", "half/events.jsonl: read-only file system")
	if after := contents(t); after != before {
		t.Errorf("after:\n%s\nbefore:\n%s", after, before)
	}
}

// The right to write checkpoints is lost: training ends with an error that names the file, the checkpoints stay, and with
// the right back it goes on to the same end.
func TestLostPermission(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "whole")
	interrupted(t, "half")
	out := sandboxed(t, `
		chmod 555 half/checkpoints
		$broadside train tiny.yaml --run half --resume || echo status $?
		ls half/checkpoints
		chmod 755 half/checkpoints
		$broadside train tiny.yaml --run half --resume`)
	wantAll(t, out, "half/checkpoints/step-000000008.safetensors", "permission denied", "status 1\nstep-000000004.safetensors\nstep-000000007.safetensors\n")
	sameEnd(t, "whole", "half")
}

// As in a container with a read-only root file system and a user of no rights: a run needs its directory, and nothing
// else that can be written but an empty /tmp.
func TestReadOnlyRoot(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "whole")
	user := ""
	if os.Getuid() == 0 {
		user = "--reuid=10001 --regid=10001 --clear-groups"
	}
	sandboxed(t, `
		here=$PWD; cp -r data tiny.yaml /mnt; cp $program /mnt/broadside; mkdir /mnt/runs /mnt/out
		mount --bind "$here" /mnt/out
		mount -t tmpfs -o size=64m,mode=1777 tmpfs /mnt/runs
		mount -o remount,bind,ro /mnt; mount -o remount,bind,ro /; mount -t tmpfs -o size=1m,mode=1777 tmpfs /tmp
		cd /mnt
		for place in /usr/x /mnt/x /mnt/data/x /etc/x; do
			if touch $place 2>/dev/null; then echo "$place can be written"; exit 1; fi
		done
		user="$without `+user+`"
		$user ./broadside doctor > /mnt/runs/doctor
		$user ./broadside train tiny.yaml --run runs/r --set checkpoint.best=true
		$user ./broadside train tiny.yaml --run runs/r --resume
		$user ./broadside curvature runs/r --samples 16
		$user ./broadside report runs/r
		$user ./broadside compare runs/r runs/r --html runs/compare.html
		cp -r runs/r /mnt/out/r; ls -A /tmp > /mnt/out/tmp`)
	sameEnd(t, "whole", "r")
	if left := read(t, "tmp"); left != "" {
		t.Errorf("left in /tmp: %s", left)
	}
}
