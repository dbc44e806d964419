/* A tank: dx/dt = gain * u - k * x, by Euler's rule, as a functional mock-up unit of FMI 2.0 for co-simulation.
 * Source: the FMI standard, version 2.0.4, https://fmi-standard.org */
#include <stdlib.h>
#include <string.h>

typedef void *Component;
typedef unsigned int Reference;
enum { OK = 0, ERROR = 3 };
enum { X, U, K, X0, GAIN, MASS, COUNT, LEAKS, REALS = MASS + 1 };

typedef struct {
    double real[REALS];
    int count, leaks;
    char name[64];
} Tank;

const char *fmi2GetTypesPlatform(void) { return "default"; }
const char *fmi2GetVersion(void) { return "2.0"; }

Component fmi2Instantiate(const char *name, int type, const char *guid, const char *place, const void *callbacks,
                          int visible, int logging)
{
    (void)name, (void)type, (void)guid, (void)place, (void)callbacks, (void)visible, (void)logging;
    Tank *tank = calloc(1, sizeof *tank);
    tank->real[K] = 0.5, tank->real[X0] = 1, tank->real[GAIN] = 1, tank->real[MASS] = 2;
    strcpy(tank->name, "spa");
    return tank;
}

void fmi2FreeInstance(Component tank) { free(tank); }

int fmi2SetupExperiment(Component tank, int is_given, double tolerance, double start, int stops, double stop)
{
    (void)tank, (void)is_given, (void)tolerance, (void)start, (void)stops, (void)stop;
    return OK;
}

int fmi2EnterInitializationMode(Component tank) { return (void)tank, OK; }

int fmi2ExitInitializationMode(Component component)
{
    Tank *tank = component;
    tank->real[X] = tank->real[X0];
    return OK;
}

int fmi2Terminate(Component tank) { return (void)tank, OK; }
int fmi2Reset(Component tank) { return (void)tank, OK; }

int fmi2GetReal(Component component, const Reference *which, size_t count, double *values)
{
    for (size_t n = 0; n < count; n++)
        values[n] = ((Tank *)component)->real[which[n]];
    return OK;
}

int fmi2SetReal(Component component, const Reference *which, size_t count, const double *values)
{
    for (size_t n = 0; n < count; n++) {
        if (which[n] == GAIN && values[n] < 0)
            return ERROR;
        ((Tank *)component)->real[which[n]] = values[n];
    }
    return OK;
}

int fmi2GetInteger(Component component, const Reference *which, size_t count, int *values)
{
    (void)which;
    for (size_t n = 0; n < count; n++)
        values[n] = ((Tank *)component)->count;
    return OK;
}

int fmi2GetBoolean(Component component, const Reference *which, size_t count, int *values)
{
    (void)which;
    for (size_t n = 0; n < count; n++)
        values[n] = ((Tank *)component)->leaks;
    return OK;
}

int fmi2SetBoolean(Component component, const Reference *which, size_t count, const int *values)
{
    (void)which;
    for (size_t n = 0; n < count; n++)
        ((Tank *)component)->leaks = values[n];
    return OK;
}

int fmi2GetString(Component component, const Reference *which, size_t count, const char **values)
{
    (void)which;
    for (size_t n = 0; n < count; n++)
        values[n] = ((Tank *)component)->name;
    return OK;
}

int fmi2SetString(Component component, const Reference *which, size_t count, const char *const *values)
{
    (void)which;
    for (size_t n = 0; n < count; n++)
        strncpy(((Tank *)component)->name, values[n], sizeof(((Tank *)component)->name) - 1);
    return OK;
}

/* What its description says that it cannot do; a host looks for the names all the same. */
#define NOT_HERE(name) int name(Component tank) { return (void)tank, ERROR; }
NOT_HERE(fmi2CancelStep)
NOT_HERE(fmi2SetDebugLogging)
NOT_HERE(fmi2SetInteger)
NOT_HERE(fmi2GetFMUstate)
NOT_HERE(fmi2SetFMUstate)
NOT_HERE(fmi2FreeFMUstate)
NOT_HERE(fmi2SerializedFMUstateSize)
NOT_HERE(fmi2SerializeFMUstate)
NOT_HERE(fmi2DeSerializeFMUstate)
NOT_HERE(fmi2GetDirectionalDerivative)
NOT_HERE(fmi2SetRealInputDerivatives)
NOT_HERE(fmi2GetRealOutputDerivatives)
NOT_HERE(fmi2GetStatus)
NOT_HERE(fmi2GetRealStatus)
NOT_HERE(fmi2GetIntegerStatus)
NOT_HERE(fmi2GetBooleanStatus)
NOT_HERE(fmi2GetStringStatus)

int fmi2DoStep(Component component, double now, double step, int is_final)
{
    (void)now, (void)is_final;
    Tank *tank = component;
    double *real = tank->real;
    if (real[U] > 100)
        return ERROR;
    real[X] += step * (real[GAIN] * real[U] - (real[K] + (tank->leaks ? 1 : 0)) * real[X]);
    tank->count++;
    return OK;
}
