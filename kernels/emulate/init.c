// The first process of the emulated machine of avx512.sh: runs each line of the file /commands and
// switches the machine off. A line is words without quotes: NAME=VALUE for the environment,
// cd=FOLDER, then a program and its arguments.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_WORDS = 64 };

// become replaces this process by a command; it returns if that fails.
static void become(char *line) {
  char *word[MAX_WORDS + 1];
  int n = 0, first = 0;
  for (char *w = strtok(line, " \n"); w && n < MAX_WORDS; w = strtok(NULL, " \n")) word[n++] = w;
  word[n] = NULL;
  for (; first < n && word[first][0] != '-' && strchr(word[first], '='); first++) {
    if (strncmp(word[first], "cd=", 3) == 0) {
      if (chdir(word[first] + 3)) return;
    } else {
      putenv(word[first]);
    }
  }
  if (first < n) execv(word[first], word + first);
}

// run runs a command and returns its exit status, 128 and the signal if one ended it.
static int run(char *line) {
  pid_t pid = fork();
  if (pid == 0) {
    become(line);
    perror("emulated machine");
    _exit(127);
  }
  int status = 0;
  if (pid < 0 || waitpid(pid, &status, 0) < 0) return 127;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// switch_off uses Bochs' own port: it needs no ACPI.
static void switch_off(void) {
  enum { PORT = 0x8900 };
  sleep(1); // for the serial line to drain
  ioperm(PORT, 1, 1);
  for (const char *c = "Shutdown"; *c; c++) outb(*c, PORT);
}

int main(void) {
  mkdir("/proc", 0755), mkdir("/dev", 0755), mkdir("/tmp", 0777);
  mount("proc", "/proc", "proc", 0, NULL);
  mount("dev", "/dev", "devtmpfs", 0, NULL);
  int console = open("/dev/ttyS0", O_RDWR);
  for (int fd = 0; fd < 3 && console >= 0; fd++) dup2(console, fd);
  setvbuf(stdout, NULL, _IONBF, 0);
  char line[1024];
  FILE *commands = fopen("/commands", "r");
  while (commands && fgets(line, sizeof line, commands)) {
    printf("RUN %s", line);
    printf("EXIT %d\n", run(line));
  }
  printf("END\n");
  switch_off();
  for (;;) pause();
}
