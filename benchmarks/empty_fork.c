/* The floor: fork(2) of a program that holds nothing. Prints the seconds of each. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

int main(int count, char **arguments)
{
    int rounds = count > 1 ? atoi(arguments[1]) : 1;
    while (rounds-- > 0) {
        double began = now();
        pid_t child = fork();
        if (child == 0) {
            pause();
            _exit(0);
        }
        printf("%.9f\n", now() - began);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    return 0;
}
